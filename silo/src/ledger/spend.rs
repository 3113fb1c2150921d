//! Spending: accounts are opened, debited and looked up; every question is answered over all that the ledger holds.
//!
//! Contract: nothing is written before it is known that it may be; what is decided and what is written lie under one lock.

use std::collections::BTreeMap;
use std::path::Path;

use blindsum_crypto::Digest;
use blindsum_engine::data::Identity;
use blindsum_privacy::FilterCost;

use super::entry::{Account, Debit, LedgerEntry, Purpose};
use super::error::LedgerError;
use super::mark::LedgerMark;
use super::overlap::Overlap;
use super::tags::TagSet;
use super::{InOtherJobs, Ledger, Spending, Spent, now};

/// Calibration lands on the limit itself; an ulp of it is not an overdraft. NaN and ∞ are, whatever the limit.
fn within(epsilon: f64, limit: f64) -> bool {
    epsilon.is_finite() && epsilon <= limit * (1.0 + 1e-9)
}

impl Ledger {
    /// How an account for these stands or would stand, and whether its whole job may be spent. Writes nothing.
    ///
    /// # Errors
    /// [`LedgerError::OverJobs`], and where an earlier start of the same job had other records or numbers.
    pub fn standing(&self, account: &Account, identities: &[Identity]) -> Result<Spent, LedgerError> {
        let tags = TagSet::new(&self.key, identities);
        let account = Account { tags: tags.digest(), ..account.clone() };
        let found = self.goes_on(&account)?;
        let overlap = self.overlap(tags, found)?;
        self.allows_whole_job(&account, found, &overlap)?;
        let steps = found.map_or(0, |number| self.spendings[number].steps());
        Ok(self.spent(&account, &overlap, steps))
    }

    /// Opens an account for these (units, and where they are persons their rows too), or goes on with it, and gives its
    /// number.
    ///
    /// # Errors
    /// As [`standing`](Self::standing), and the disk's.
    pub fn admit(&mut self, account: Account, identities: &[Identity]) -> Result<usize, LedgerError> {
        let tags = TagSet::new(&self.key, identities);
        let account = Account { tags: tags.digest(), time_unix_seconds: now(), ..account };
        self.exclusively(|ledger| {
            // Under the lock: another process may write the same set under the same number of process, as in containers.
            tags.write(&ledger.dir.join(super::TAGS_DIR), &account.tags)?;
            let found = ledger.goes_on(&account)?;
            let overlap = ledger.overlap(tags, found)?;
            ledger.allows_whole_job(&account, found, &overlap)?;
            let number = found.unwrap_or(ledger.spendings.len());
            match found {
                None => ledger.append(LedgerEntry::Account(account))?,
                // A mark is made of lines that others wrote, who may have been killed before they were on the disk.
                Some(_) => ledger.chain.sync()?,
            }
            ledger.overlaps.insert(number, overlap);
            Ok(number)
        })
    }

    /// Writes the debit of `steps` steps of an admitted account and says how it stands then. When this returns, the line
    /// is on the disk.
    ///
    /// # Errors
    /// [`LedgerError::Exhausted`] and [`LedgerError::OverJobs`] if a limit would be passed: nothing was written, nothing
    /// may be trained. [`LedgerError::Io`] from the disk, and again at every later call.
    pub fn debit(&mut self, number: usize, round: u32, attempt: u32, steps: u64) -> Result<Spent, LedgerError> {
        self.exclusively(|ledger| {
            let spending = &ledger.spendings[number];
            let (account, before) = (&spending.account, spending.steps());
            let Some(overlap) = ledger.overlaps.get(&number) else {
                return Err(LedgerError::Tags { account: number, path: ledger.path() });
            };
            let spent = ledger.spent(account, overlap, before.saturating_add(steps));
            if !within(spent.in_job, account.epsilon_limit) {
                return Err(LedgerError::Exhausted {
                    round,
                    attempt,
                    would_be: spent.in_job,
                    delta: account.delta,
                    limit: account.epsilon_limit,
                    so_far: spending.epsilon(),
                    debits: spending.debits.len(),
                    retries: spending.retries(),
                });
            }
            if !within(spent.over_jobs, ledger.limit.max_epsilon) {
                let what = format!("round {round}, attempt {attempt}");
                return Err(ledger.over_jobs(account, overlap, what, spent.over_jobs));
            }
            let debit = Debit {
                account: number,
                round,
                attempt,
                steps,
                epsilon_so_far: spent.in_job,
                epsilon_over_jobs: spent.over_jobs,
                limit_epsilon: ledger.limit.max_epsilon,
                limit_delta: ledger.limit.delta,
                time_unix_seconds: now(),
            };
            ledger.append(LedgerEntry::Debit(debit))?;
            Ok(spent)
        })
    }

    /// How an admitted account stands.
    #[must_use]
    pub fn now(&self, number: usize) -> Spent {
        let spending = &self.spendings[number];
        let none = Spent { in_job: f64::INFINITY, over_jobs: f64::INFINITY };
        self.overlaps.get(&number).map_or(none, |overlap| self.spent(&spending.account, overlap, spending.steps()))
    }

    /// Refuses a ledger that knows less than the silo's state directory does: `mark` is what it remembers of the ledger,
    /// `went_out` the attempts (round, attempt) of its journal in which an update trained for `account` went out. An
    /// update is trained and debited for the attempt in which it first goes out, or for an earlier one of its round.
    ///
    /// # Errors
    /// [`LedgerError::RolledBack`] and [`LedgerError::OtherLedger`].
    pub fn remembered(
        &self,
        mark: Option<&LedgerMark>,
        mark_path: &Path,
        account: Option<usize>,
        went_out: &[(u32, u32)],
    ) -> Result<(), LedgerError> {
        if let Some(mark) = mark {
            if mark.ledger != self.id {
                let (mark_path, path) = (mark_path.to_owned(), self.path());
                return Err(LedgerError::OtherLedger { mark: mark_path, path, before: mark.ledger, now: self.id });
            }
            self.holds(mark, mark_path)?;
        }
        let debits = account.map_or(&[][..], |number| &self.spendings[number].debits);
        for (round, attempt) in went_out {
            if !debits.iter().any(|debit| debit.round == *round && debit.attempt <= *attempt) {
                let what = format!(
                    "the journal beside {} says that an update of round {round}, attempt {attempt} went out, of which it holds \
                     no debit",
                    mark_path.display()
                );
                return Err(LedgerError::RolledBack { path: self.path(), what });
            }
        }
        Ok(())
    }

    /// Refuses a ledger without the line that the file at `path` remembers.
    pub(super) fn holds(&self, mark: &LedgerMark, path: &Path) -> Result<(), LedgerError> {
        let links = self.chain.links();
        if mark.lines.checked_sub(1).and_then(|last| links.get(last)) == Some(&mark.link.0) {
            return Ok(());
        }
        let (lines, now) = (mark.lines, links.len());
        let what = format!("{} remembers a line {lines} that is not among its {now} lines", path.display());
        Err(LedgerError::RolledBack { path: self.path(), what })
    }

    /// What a state directory should remember of this ledger.
    #[must_use]
    pub fn mark(&self) -> LedgerMark {
        let links = self.chain.links();
        LedgerMark { ledger: self.id, lines: links.len(), link: Digest(links.last().copied().unwrap_or_default()) }
    }

    /// The accounts that may hold this unit, or this row of a person.
    ///
    /// # Errors
    /// Tags that cannot be read.
    pub fn who(&self, one: &Identity) -> Result<Vec<usize>, LedgerError> {
        let tag = self.key.tag(one);
        let mut sets: BTreeMap<Digest, bool> = BTreeMap::new();
        let mut found = Vec::new();
        for (number, spending) in self.spendings.iter().enumerate() {
            let digest = spending.account.tags;
            let has = match sets.get(&digest) {
                Some(has) => *has,
                None => self.tags(number)?.has(&tag),
            };
            sets.insert(digest, has);
            found.extend(has.then_some(number));
        }
        Ok(found)
    }

    /// Steps that an account has left in the job, and over all jobs, where they are fewer.
    ///
    /// # Errors
    /// Tags that cannot be read.
    pub fn steps_left(&self, number: usize) -> Result<(u64, u64), LedgerError> {
        let overlap = self.overlap(self.tags(number)?, Some(number))?;
        let Spending { account, .. } = &self.spendings[number];
        let done = self.spendings[number].steps();
        let most = |fits: &dyn Fn(Spent) -> bool| {
            // The first number of steps that does not fit lies above what the job plans only where more is allowed.
            let (mut fit, mut not) = (0, account.steps.saturating_mul(2).max(2));
            while not - fit > 1 {
                let middle = fit + (not - fit) / 2;
                let spent = self.spent(account, &overlap, done.saturating_add(middle));
                if fits(spent) { fit = middle } else { not = middle }
            }
            fit
        };
        let in_job = most(&|spent| within(spent.in_job, account.epsilon_limit));
        let limit = self.limit.max_epsilon;
        Ok((in_job, in_job.min(most(&|spent| within(spent.over_jobs, limit)))))
    }

    /// Reads the tags of every account.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn verify_tags(&self) -> Result<(), LedgerError> {
        (0..self.spendings.len()).try_for_each(|number| self.tags(number).map(|_| ()))
    }

    /// The account that this one goes on with; it must be for the same units and numbers.
    fn goes_on(&self, account: &Account) -> Result<Option<usize>, LedgerError> {
        let Some(number) = self.find(account.job, &account.silo, account.purpose) else { return Ok(None) };
        let before = &self.spendings[number].account;
        if before.tags != account.tags || before.units != account.units {
            return Err(LedgerError::OtherData {
                path: self.path(),
                account: number,
                before: before.file.clone(),
                now: account.file.clone(),
                counts: format!("{} then, {} now", before.units, account.units),
            });
        }
        let numbers = [
            ("sampling rate", before.sampling_rate, account.sampling_rate),
            ("noise multiplier", before.noise_multiplier, account.noise_multiplier),
            ("δ", before.delta, account.delta),
        ];
        for (what, before, now) in numbers {
            // The tolerance is for the last digit of a decimal number in a file, nothing more.
            if (before - now).abs() > 1e-12 * before.abs() {
                return Err(LedgerError::OtherMechanism { path: self.path(), account: number, what, before, now });
            }
        }
        Ok(Some(number))
    }

    /// Number of a silo's account in a federation's job.
    #[must_use]
    pub fn find(&self, job: Digest, silo: &str, purpose: Purpose) -> Option<usize> {
        self.spendings.iter().position(|found| found.account.is_of(job, silo, purpose))
    }

    /// How an account stands, and how many of its tags other accounts spent on too. Writes nothing.
    ///
    /// # Errors
    /// Tags that cannot be read.
    pub fn inspect(&self, number: usize) -> Result<(Spent, InOtherJobs), LedgerError> {
        let overlap = self.overlap(self.tags(number)?, Some(number))?;
        let spending = &self.spendings[number];
        let shared = self.shared(&spending.account, &overlap);
        Ok((self.spent(&spending.account, &overlap, spending.steps()), shared))
    }

    /// These tags' classes over all accounts but `own`.
    fn overlap(&self, tags: TagSet, own: Option<usize>) -> Result<Overlap, LedgerError> {
        let mut by_tags: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        for (number, spending) in self.spendings.iter().enumerate().filter(|(number, _)| Some(*number) != own) {
            by_tags.entry(spending.account.tags).or_default().push(number);
        }
        let mut overlap = Overlap::new(tags);
        for accounts in by_tags.values() {
            overlap.split(&self.tags(accounts[0])?, accounts);
        }
        Ok(overlap)
    }

    /// ε after so many steps of an account: alone, and of its worst tag over all jobs.
    fn spent(&self, account: &Account, overlap: &Overlap, steps: u64) -> Spent {
        let in_job = account.epsilon(steps);
        let own = self.filter.cost(account.sampling_rate, account.noise_multiplier).times(steps);
        let over_jobs = overlap.classes().iter().map(|accounts| {
            let others = self.cost_of(accounts);
            // One job alone is composed exactly, whatever was seen while it ran.
            match (others.is_nothing(), own.is_nothing()) {
                (true, _) => in_job,
                (false, true) => self.by_others(accounts),
                (false, false) => self.filter.epsilon(others.and(own)),
            }
        });
        Spent { in_job, over_jobs: over_jobs.fold(in_job, f64::max) }
    }

    /// ε that these accounts spent on a unit that all of them hold: exactly where one of them alone spent.
    fn by_others(&self, accounts: &[usize]) -> f64 {
        let mut spent = accounts.iter().filter(|&&number| self.spendings[number].steps() > 0);
        match (spent.next(), spent.next()) {
            (Some(&alone), None) => self.spendings[alone].epsilon(),
            _ => self.filter.epsilon(self.cost_of(accounts)),
        }
    }

    /// What these accounts spent on a unit that all of them hold, by the filter.
    fn cost_of(&self, accounts: &[usize]) -> FilterCost {
        let cost = |&number: &usize| self.costs[number].times(self.spendings[number].steps());
        accounts.iter().map(cost).fold(FilterCost::default(), FilterCost::and)
    }

    /// Refuses a job that would have to be given up on the way, or that alone has another δ than the organisation allows.
    fn allows_whole_job(&self, account: &Account, found: Option<usize>, overlap: &Overlap) -> Result<(), LedgerError> {
        if !within(account.delta, self.limit.delta) {
            return Err(LedgerError::Delta { job: account.delta, limit: self.limit.delta });
        }
        let steps = found.map_or(0, |number| self.spendings[number].steps()).max(account.steps);
        let whole = self.spent(account, overlap, steps);
        // In its own job an account is held to the job's ε, debit by debit.
        if whole.over_jobs > whole.in_job && !within(whole.over_jobs, self.limit.max_epsilon) {
            let what = format!("the whole job {:?} ({})", account.job_name, account.purpose.said());
            return Err(self.over_jobs(account, overlap, what, whole.over_jobs));
        }
        Ok(())
    }

    fn over_jobs(&self, account: &Account, overlap: &Overlap, what: String, would_be: f64) -> LedgerError {
        let others = overlap.classes().iter().map(|accounts| self.by_others(accounts));
        LedgerError::OverJobs {
            file: account.file.clone(),
            what,
            would_be,
            limit: self.limit.max_epsilon,
            delta: self.limit.delta,
            others: others.fold(0.0, f64::max),
            shared: self.shared(account, overlap),
        }
    }

    fn shared(&self, account: &Account, overlap: &Overlap) -> InOtherJobs {
        let (number, tags) = (overlap.shared_with(|number| self.spendings[number].steps() > 0), overlap.len());
        // a record has one tag, which equal ones have together; a person has its own and one of a row at least
        InOtherJobs { number, tags, persons: tags as u64 > account.units }
    }
}
