//! Which of the organisation's other accounts hold the same tags: classes of tags that the same accounts hold.
//!
//! Contract: every tag is in one class; a class that no tag is in does not exist. Time and memory grow with tags, not
//! with what can be said of them.

use std::collections::BTreeMap;

use super::tags::TagSet;

/// Classes of an account's tags.
#[derive(Debug)]
pub(super) struct Overlap {
    tags: TagSet,
    /// Of each tag.
    class: Vec<u32>,
    /// The accounts of each class, ascending.
    accounts: Vec<Vec<usize>>,
}

impl Overlap {
    /// Tags that no other account holds.
    pub fn new(tags: TagSet) -> Self {
        let class = vec![0; tags.tags().len()];
        Overlap { tags, class, accounts: vec![Vec::new()] }
    }

    /// Takes in `others`, accounts that hold these tags.
    pub fn split(&mut self, tags: &TagSet, others: &[usize]) {
        if *tags == self.tags {
            self.accounts.iter_mut().for_each(|accounts| accounts.extend(others));
            return;
        }
        let mut theirs = tags.tags().iter().peekable();
        let mut shared = Vec::with_capacity(self.class.len());
        for ours in self.tags.tags() {
            while theirs.next_if(|tag| *tag < ours).is_some() {}
            shared.push(theirs.next_if(|tag| *tag == ours).is_some());
        }
        let mut classes: BTreeMap<(u32, bool), u32> = BTreeMap::new();
        let mut accounts = Vec::new();
        for (class, shared) in self.class.iter_mut().zip(shared) {
            let next = classes.len() as u32;
            *class = *classes.entry((*class, shared)).or_insert_with(|| {
                let mut of = self.accounts[*class as usize].clone();
                of.extend(others.iter().filter(|_| shared));
                accounts.push(of);
                next
            });
        }
        self.accounts = accounts;
    }

    /// Different tags.
    pub fn len(&self) -> usize {
        self.class.len()
    }

    /// The accounts of each class.
    pub fn classes(&self) -> &[Vec<usize>] {
        &self.accounts
    }

    /// Tags that some other account of these holds too.
    pub fn shared_with(&self, any_of: impl Fn(usize) -> bool) -> usize {
        let counts = |class: u32| self.accounts[class as usize].iter().any(|&account| any_of(account));
        self.class.iter().filter(|&&class| counts(class)).count()
    }
}

#[cfg(test)]
mod tests {
    use blindsum_engine::data::Identity;

    use super::super::tags::TagKey;
    use super::*;

    fn set(units: &[u8]) -> TagSet {
        let units: Vec<Identity> = units.iter().map(|&i| Identity([i; 16])).collect();
        TagSet::new(&TagKey::new(&[7; 32]), &units)
    }

    #[test]
    fn units_are_told_apart_by_the_accounts_that_hold_them() {
        let mut overlap = Overlap::new(set(&[1, 2, 3, 4]));
        overlap.split(&set(&[9, 2]), &[0]);
        overlap.split(&set(&[1, 2, 3, 4]), &[1, 2]);
        overlap.split(&set(&[2, 3]), &[3]);
        overlap.split(&set(&[5]), &[4]);
        let mut classes = overlap.classes().to_vec();
        classes.sort();
        assert_eq!(classes, [vec![0, 1, 2, 3], vec![1, 2], vec![1, 2, 3]]);
        assert_eq!(overlap.shared_with(|account| account == 3), 2);
        assert_eq!(overlap.shared_with(|account| account == 4), 0);
    }
}
