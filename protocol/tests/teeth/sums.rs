//! P6 at a silo: false sums signed or adopted (SA-14, SA-16).

use blindsum_crypto::teeth::bites;
use blindsum_crypto::verify::Check;
use blindsum_crypto::{
    CommitCertificate, CommitVote, Digest, ResultCertificate, ResultVote, Signature, SiloId, Sketch, SurvivorList,
    packing, transcript,
};
use blindsum_protocol::CoordinatorMessage;
use blindsum_protocol::message::{MaskedBack, RoundResult};

use crate::script::{KIND, Script, Summed, attempt, ids};
use blindsum_testkit::{NONE, job_text};

const ALL: [u16; 4] = [0, 1, 2, 3];

fn checking() -> String {
    job_text(1, NONE, "held-out")
}

/// Silos that sign what they compute from any sum.
fn trusting() -> String {
    checking().replace("metrics =", "verify_sum = \"off\"\nmetrics =")
}

/// A finished session of all four, or of the first ones with the others dropped before P0.
fn summed(job: &str, cohort: &[u16]) -> (Script, Summed) {
    let mut script = Script::new(4, job);
    let summed = script.attempt(attempt(1, 1), &ids(cohort), &[]).unwrap();
    (script, summed)
}

/// The round ends as it should, in a job without the check of sums.
pub fn adopt(script: &mut Script, summed: &Summed, sum: &[u8]) {
    let votes = ids(&ALL).into_iter().map(|silo| script.result_vote(silo, summed.result(), sum).unwrap()).collect();
    let certificate = ResultCertificate(votes);
    for silo in ids(&ALL) {
        script.tell(silo, CoordinatorMessage::Certified { at: summed.session.at, certificate: certificate.clone() });
    }
}

/// Votes of all silos on a sum without proof.
fn votes(script: &mut Script, result: &RoundResult, sum: &[u8]) -> Vec<ResultVote> {
    ids(&ALL).into_iter().filter_map(|silo| script.result_vote(silo, result.clone(), sum)).collect()
}

#[test]
fn sa16_teeth_a_false_sum_without_proof_is_signed_by_everybody() {
    bites(&[Check::ProofRequired], || {
        let (mut script, summed) = summed(&checking(), &ALL);
        votes(&mut script, &summed.result(), &summed.altered()).len() == 4
    });
}

#[test]
fn sa16_sa05_teeth_a_sum_over_fewer_silos_than_its_list_is_signed_by_everybody() {
    bites(&[Check::Canary], || {
        let (mut script, summed) = summed(&trusting(), &ALL);
        let mut sum = summed.sum.clone();
        let canary = sum.len() - 24;
        assert_eq!(sum[canary], 4);
        sum[canary] = 3;
        votes(&mut script, &summed.result(), &sum).len() == 4
    });
}

#[test]
fn sa14_sa07_teeth_two_results_of_one_round_both_get_a_quorum() {
    bites(&[Check::OneResult, Check::JournalResult], || {
        let (mut script, summed) = summed(&trusting(), &ALL);
        let first = votes(&mut script, &summed.result(), &summed.sum);
        assert_eq!(first.len(), 4);
        for silo in ids(&ALL) {
            script.restart(silo).unwrap();
        }
        let second = votes(&mut script, &summed.result(), &summed.altered());
        second.iter().filter(|vote| !first.contains(vote)).count() >= usize::from(script.quorum().q)
    });
}

#[test]
fn sa08_teeth_a_silo_signs_the_sum_of_another_list_than_its_own() {
    bites(&[Check::ResultOwnList, Check::CommitSignature], || {
        let (mut script, summed) = summed(&trusting(), &ALL);
        let mut result = summed.result();
        result.list.0.pop();
        let forge = |silo| CommitVote { silo, signature: Signature([0; 64]) };
        result.commits = CommitCertificate(ids(&ALL[..3]).into_iter().map(forge).collect());
        let params = script.setup.plan.params(KIND);
        let mut lanes = vec![0; params.lanes()];
        lanes[params.range("metrics").unwrap().1.start] = 3;
        let sum = packing::pack(params, &lanes).unwrap();
        script.result_vote(SiloId(0), result, &sum).is_some()
    });
}

#[test]
fn sa16_teeth_a_proof_of_one_session_vouches_for_another() {
    // a silo that was not part of the session is told another bind, under which nobody signed anything
    bites(&[Check::ProofSession, Check::MaskedSignature, Check::CommitSignature], || {
        let (mut script, summed) = summed(&checking(), &ALL[..3]);
        let at = summed.session.at;
        let sketch = |silo| script.sketch(silo, at, &summed.sum, None).unwrap();
        let sketches: Vec<Sketch> = ids(&ALL[..3]).into_iter().map(sketch).collect();
        let honest = RoundResult { proof: Some(summed.proof(sketches)), ..summed.result() };
        let false_bind = RoundResult { bind: Digest([9; 32]), ..honest.clone() };
        let signed = script.result_vote(SiloId(3), false_bind, &summed.sum).is_some();
        let (mut other, again) = self::summed(&checking(), &ALL[..3]);
        assert_eq!(again.sum, summed.sum);
        assert!(other.result_vote(SiloId(3), honest, &summed.sum).is_some(), "the honest result is signed");
        signed
    });
}

/// The sum and silo 0's masked input, each with the same change of one coordinate: a sketch of the latter vouches for the
/// former.
fn changed_alike(script: &Script, summed: &Summed) -> (Vec<u8>, Vec<u8>) {
    let params = script.setup.plan.params(KIND);
    let change = |packed: &[u8]| {
        let mut lanes = packing::unpack(params, packed).unwrap();
        lanes[2] = lanes[2].wrapping_add(1000);
        packing::pack(params, &lanes).unwrap()
    };
    (change(&summed.sum), change(&summed.session.masked[&SiloId(0)].1))
}

/// Silo 0 was restarted and is handed back what was never its masked input. Does everybody sign the false sum?
fn handed_back(list: impl Fn(&Summed, Digest) -> SurvivorList) -> bool {
    let (mut script, summed) = summed(&checking(), &ALL);
    let (sum, masked) = changed_alike(&script, &summed);
    let at = summed.session.at;
    script.restart(SiloId(0)).unwrap();
    let bind = summed.session.headers.bind();
    let back = MaskedBack { bind, list: list(&summed, transcript::masked_hash(&masked)) };
    let Some(first) = script.sketch(SiloId(0), at, &sum, Some((back, masked))) else { return false };
    let others = ids(&ALL[1..]).into_iter().map(|silo| script.sketch(silo, at, &sum, None).unwrap());
    let sketches: Vec<Sketch> = [first].into_iter().chain(others).collect();
    let result = RoundResult { proof: Some(summed.proof(sketches)), ..summed.result() };
    assert_ne!(sum, summed.sum);
    votes(&mut script, &result, &sum).len() == 4
}

#[test]
fn sa04_sa16_teeth_a_false_masked_input_handed_back_vouches_for_a_false_sum() {
    bites(&[Check::BackHash], || handed_back(|summed, _| summed.list.list().clone()));
    bites(&[Check::BackList], || {
        handed_back(|summed, hash| {
            let mut list = summed.list.list().clone();
            list.0[0].hash = hash;
            list
        })
    });
}

#[test]
fn sa16_teeth_a_coordinator_tries_one_sum_after_the_other() {
    bites(&[Check::OneSum], || {
        let (mut script, summed) = summed(&checking(), &ALL);
        let at = summed.session.at;
        let first = script.sketch(SiloId(0), at, &summed.sum, None).unwrap();
        let second = script.sketch(SiloId(0), at, &summed.altered(), None);
        second.is_some_and(|second| second != first)
    });
}

/// Silo 0 is shown a false sum with RESULT votes made by `certificate` from the one that a colluder cast for it.
fn adopts(certificate: impl Fn(ResultVote) -> Vec<ResultVote>) -> bool {
    let (mut script, summed) = summed(&trusting(), &ALL);
    let sum = summed.altered();
    let colluders = script.result_vote(SiloId(3), summed.result(), &sum).unwrap();
    let certificate = Some(ResultCertificate(certificate(colluders)));
    script.result_vote(SiloId(0), RoundResult { certificate, ..summed.result() }, &sum);
    script.silos[0].held.is_some()
}

#[test]
fn sa14_teeth_a_false_model_is_adopted_on_forged_few_or_repeated_votes() {
    bites(&[Check::ResultSignature], || {
        adopts(|_| ids(&ALL).into_iter().map(|silo| ResultVote { silo, signature: Signature([0; 64]) }).collect())
    });
    bites(&[Check::ResultQuorum], || adopts(|vote| vec![vote]));
    bites(&[Check::ResultQuorum], || adopts(|vote| vec![vote; 3]));
}
