//! Our own negative vectors: the session of `frozen` with one thing changed, and the invariant that must refuse it.
//!
//! Contract: everything before the step in question must pass as changed; the step must refuse by the rule of the vector,
//! blame the silo of the vector, and blame a signature exactly where the vector says so. Unchanged, every step accepts.

use super::json::{self, bytes, digest, fixed, hexed, number, session, silo, text};
use super::*;
use crate::commit::{AbandonCertificate, CommitCertificate};
use crate::identity::Signature;
use crate::params::ParamsError;
use crate::result::ResultCertificate;
use crate::sketch::{OpenedSecret, SumProof};
use crate::transcript;
use crate::unmask::Recovery;
use crate::verify::{ClaimedSum, DeliveryError};
use serde_json::Value;

/// What a step answers: nothing, or a refusal by a rule, and who is at fault by it.
struct Refusal {
    rule: &'static str,
    what: String,
    blamed: Option<SiloId>,
    fault: Option<&'static str>,
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Refusal {
        Refusal { rule: error.check.rule(), what: error.what, blamed: error.blamed, fault: None }
    }
}

impl From<DeliveryError> for Refusal {
    fn from(error: DeliveryError) -> Refusal {
        match error {
            DeliveryError::NotAsSigned(error) => Refusal { fault: Some("not-as-signed"), ..error.into() },
            DeliveryError::DealerAtFault(error) => Refusal { fault: Some("dealer"), ..error.into() },
        }
    }
}

fn refusal(rule: &'static str, what: impl ToString) -> Refusal {
    Refusal { rule, what: what.to_string(), blamed: None, fault: None }
}

/// A document under test: `v` is the changed one, `good` the one that the checker holds itself.
struct Bench<'a> {
    kit: &'a Kit,
    good: &'a Value,
    v: &'a Value,
}

impl Bench<'_> {
    fn adverts(&self) -> VerifiedAdverts {
        verify::adverts(&self.kit.rules(), json::list(&self.v["adverts"], json::advert), None, &[]).unwrap()
    }

    fn header_list(&self) -> Vec<ShareHeader> {
        json::list(&self.v["dealings"], |d| json::header(&d["header"]))
    }

    fn headers(&self) -> VerifiedHeaders {
        verify::headers(&self.kit.rules(), self.header_list(), &self.adverts(), None).unwrap()
    }

    fn dealing(&self, item: usize) -> Result<VerifiedDealing, VerifyError> {
        verify::dealing(&self.kit.rules(), json::dealing(&self.v["dealings"][item]), &self.adverts())
    }

    fn dealings(&self) -> BTreeMap<SiloId, VerifiedDealing> {
        (0..4).map(|i| self.dealing(i).unwrap()).map(|d| (d.dealer(), d)).collect()
    }

    fn survivor_list(&self) -> SurvivorList {
        SurvivorList(json::list(&self.v["survivor_list"], json::masked_header))
    }

    fn list(&self) -> VerifiedList {
        verify::survivor_list(&self.kit.rules(), self.survivor_list(), &self.headers(), None).unwrap()
    }

    /// Runs one step; `case` names the item and what the checker knows besides.
    fn run(&self, case: &Value) -> Result<(), Refusal> {
        let (kit, v) = (self.kit, self.v);
        let (rules, params) = (kit.rules(), &kit.params);
        let item = case["item"].as_u64().unwrap_or(0) as usize;
        let own = case["own"].as_u64().map(|own| own as usize);
        let sum = || bytes(&v["sum"]["packed"]);
        match case["check"].as_str().unwrap() {
            "roster" => drop(json::roster(&v["roster"]).map_err(|e| refusal("SA-01", e))?),
            "params" => json::params(&v["params"]).check().map_err(|e| {
                let rule = match &e {
                    ParamsError::Quorum(_) => "SA-08",
                    ParamsError::TooLong(_) | ParamsError::Segments(_) => "SA-12",
                    ParamsError::Segment { .. } | ParamsError::Deadline => "SA-10",
                };
                refusal(rule, e)
            })?,
            "context" => {
                let theirs = json::context(&v["context"]);
                match kit.context.first_difference(&theirs) {
                    Some(field) => {
                        assert_eq!(case["says"], field);
                        assert_eq!(hexed(theirs.digest()), case["digest"]);
                        return Err(refusal("SA-02", field));
                    }
                    None => assert_eq!(theirs.digest(), kit.ctx),
                }
            }
            "advert" => verify::advert(&rules, &json::advert(&v["adverts"][item]))?,
            "adverts" => {
                let own = own.map(|own| json::advert(&self.good["adverts"][own]));
                let known = case.get("known").map(|k| {
                    (silo(&k["silo"]), JournalMark { length: number(&k["length"]), head: digest(&k["head"]) })
                });
                let adverts = json::list(&v["adverts"], json::advert);
                verify::adverts(&rules, adverts, own.as_ref(), known.as_slice())?;
            }
            "header" => {
                let header = json::header(&v["dealings"][item]["header"]);
                verify::header(&rules, header, &self.adverts())?;
            }
            "headers" => {
                let own = own.map(|own| json::header(&self.good["dealings"][own]["header"]));
                verify::headers(&rules, self.header_list(), &self.adverts(), own.as_ref())?;
            }
            "dealing" => drop(self.dealing(item)?),
            "bundle" => {
                let dealing = self.dealing(item).unwrap();
                let recipient = silo(&case["recipient"]);
                let delivery = dealing.delivery(recipient).unwrap();
                let channel = &kit.secrets[recipient.index()].channel;
                verify::delivery(&delivery, dealing.header(), &self.adverts(), recipient, channel)?;
            }
            "delivery" => {
                let (sent, got) = (&self.good["deliveries"][item], &v["deliveries"][item]);
                let (dealer, recipient) = (silo(&sent["dealer"]), silo(&got["recipient"]));
                let channel = &kit.secrets[silo(&sent["recipient"]).index()].channel;
                let dealings = self.dealings();
                let header = dealings[&dealer].header();
                verify::delivery(&json::delivery(got), header, &self.adverts(), recipient, channel)?;
            }
            "complaint" => {
                let dealings = self.dealings();
                let header = dealings[&silo(&self.good["complaint"]["dealer"])].header();
                verify::complaint(&rules, &json::complaint(&v["complaint"]), header, &self.adverts())?;
            }
            "masked_header" => {
                let header = json::masked_header(&v["masked"][item]);
                verify::masked_header(&rules, &header, &self.headers())?;
            }
            "masked" => {
                let (header, packed) = (json::masked_header(&v["masked"][item]), bytes(&v["masked"][item]["packed"]));
                verify::masked(&rules, header, &packed, params, &self.headers())?;
            }
            "survivor_list" => {
                let own = own.map(|own| json::masked_header(&self.good["masked"][own]));
                verify::survivor_list(&rules, self.survivor_list(), &self.headers(), own.as_ref())?;
            }
            "closed_list" => drop(verify::closed_list(&rules, &digest(&v["bind"]), &self.survivor_list())?),
            "commit_vote" => {
                let list = self.list();
                verify::commit_vote(&rules, &json::commit_vote(&v["commits"][item]), &list.t3(), list.survivors())?;
            }
            "commit_certificate" => {
                let (list, votes) = (self.list(), CommitCertificate(json::list(&v["commits"], json::commit_vote)));
                verify::commit_certificate(&rules, &votes, &list.t3(), list.survivors())?;
            }
            "abandon_vote" => verify::abandon_vote(&rules, &json::abandon_vote(&v["abandons"][item]))?,
            "abandon_certificate" => {
                let votes = AbandonCertificate(json::list(&v["abandons"], json::abandon_vote));
                verify::abandon_certificate(&rules, &votes)?;
            }
            "reveal" => {
                let reveal = json::reveal(&v["reveals"][item]);
                verify::reveal(&rules, &reveal, &self.list(), &self.dealings())?;
            }
            "recovery" => {
                let (list, dealings) = (self.list(), self.dealings());
                let mut recovery = Recovery::new(params.quorum.t, &list);
                for reveal in json::list(&v["reveals"], json::reveal) {
                    assert!(recovery.add(&verify::reveal(&rules, &reveal, &list, &dealings).unwrap()));
                }
                let masks = recovery.streams(&self.adverts(), &self.headers())?;
                assert!(masks.guilty.is_empty());
            }
            "sketch" => {
                let sum_hash = transcript::sum_hash(&sum());
                verify::sketch(&rules, &json::sketch(&v["sketches"][item]), params, &self.list(), &sum_hash)?;
            }
            "sum" => {
                let inputs = json::list(&v["opened"], |o| bytes(&o["packed"]));
                let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
                let proof = SumProof {
                    adverts: json::list(&v["adverts"], json::advert),
                    headers: self.header_list(),
                    secrets: json::list(&v["rebuilt"], |s| OpenedSecret(fixed(s))),
                    sketches: json::list(&v["sketches"], json::sketch),
                    opened: json::list(&v["opened"], |o| silo(&o["silo"])),
                };
                let (list, packed) = (self.survivor_list(), sum());
                let claim = ClaimedSum { params, list: &list, packed: &packed, proof: &proof, opened: &inputs };
                verify::sum(&rules, &claim, 1)?;
            }
            "result_vote" => {
                let vote = json::result_vote(&v["results"][item]);
                verify::result_vote(&rules, &vote, &digest(&v["result_hash"]), &digest(&v["next_model_hash"]))?;
            }
            "result_certificate" => {
                let votes = ResultCertificate(json::list(&v["results"], json::result_vote));
                let (result, next) = (digest(&v["result_hash"]), digest(&v["next_model_hash"]));
                verify::result_certificate(&rules, &votes, &result, &next)?;
            }
            other => panic!("there is no check {other}"),
        }
        Ok(())
    }
}

fn negative() -> Value {
    serde_json::from_str(include_str!("../../vectors/negative.json")).unwrap()
}

/// The good session with the changes of a case.
fn changed(good: &Value, case: &Value) -> Value {
    let mut v = good.clone();
    for (at, new) in case["set"].as_object().unwrap() {
        let place = v.pointer_mut(at).unwrap_or_else(|| panic!("{at} is not in the session"));
        assert!(place != new, "{}: {at} is not changed", case["what"]);
        *place = new.clone();
    }
    v
}

/// What is wrong with the answer to a case; `None` where it is the right refusal.
fn complaint_about(case: &Value, answer: Result<(), Refusal>) -> Option<String> {
    let name = format!("{}: {}", text(&case["check"]), text(&case["what"]));
    let Err(Refusal { rule, what, blamed, fault }) = answer else {
        return Some(format!("{name} was accepted"));
    };
    let by_signature = what.contains("its signature (");
    let right = rule == case["rule"]
        && blamed.map(|s| u64::from(s.0)) == case["blamed"].as_u64()
        && fault == case.get("fault").and_then(Value::as_str)
        && by_signature == case.get("by_signature").is_some_and(|b| b == true);
    (!right).then(|| format!("{name} should be refused by {} of {}: {what} ({rule})", case["rule"], case["blamed"]))
}

#[test]
fn every_negative_vector_is_refused_by_its_rule() {
    let good = session();
    let (kit, negative) = (frozen::kit(&good), negative());
    let (mut by_check, mut by_rule, mut wrong) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for case in negative["cases"].as_array().unwrap() {
        let v = changed(&good, case);
        wrong.extend(complaint_about(case, Bench { kit: &kit, good: &good, v: &v }.run(case)));
        *by_check.entry(text(&case["check"])).or_insert(0) += 1;
        *by_rule.entry(text(&case["rule"])).or_insert(0) += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("by check {by_check:?}\nby rule {by_rule:?}");
    assert_eq!(by_check.values().sum::<i32>(), 700);
    // the rest is no check on one message: SA-11 is about what is shown, SA-15 about what is drawn
    let rules = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16].map(|i| format!("SA-{i:02}"));
    assert_eq!(by_rule.keys().cloned().collect::<Vec<_>>(), rules);
}

#[test]
fn unchanged_every_step_accepts() {
    let good = session();
    let (kit, negative) = (frozen::kit(&good), negative());
    let mut steps: Vec<Value> = negative["cases"].as_array().unwrap().clone();
    for step in &mut steps {
        step.as_object_mut()
            .unwrap()
            .retain(|field, _| ["check", "item", "recipient", "own"].contains(&field.as_str()));
    }
    steps.sort_by_key(Value::to_string);
    steps.dedup();
    for step in &steps {
        let refused = (Bench { kit: &kit, good: &good, v: &good }).run(step).err();
        assert!(refused.is_none(), "{step}: {}", refused.unwrap().what);
    }
    // and a whole masked input in place of a sketch
    let mut v = good.clone();
    v["opened"] = vec![serde_json::json!({ "silo": 3, "packed": good["masked"][3]["packed"] })].into();
    v["sketches"].as_array_mut().unwrap().pop();
    assert!((Bench { kit: &kit, good: &good, v: &v }).run(&serde_json::json!({ "check": "sum" })).is_ok());
}

#[test]
fn what_is_not_claimed_is_accepted() {
    // so that nobody takes SA-16 for more than it is: a survivor's sketch is not tied to the masked input that it sent
    let good = session();
    let (kit, negative) = (frozen::kit(&good), negative());
    let limits = negative["limits"].as_array().unwrap();
    assert_eq!(limits.len(), 1);
    for limit in limits {
        let v = changed(&good, limit);
        let refused = Bench { kit: &kit, good: &good, v: &v }.run(limit).err();
        assert!(refused.is_none(), "{} is refused after all: {}", limit["what"], refused.unwrap().what);
    }
}

#[test]
fn signatures_with_r_of_small_order_are_refused_by_strictness_alone() {
    let good = session();
    let kit = frozen::kit(&good);
    let mut found = 0;
    for claim in negative()["cases"].as_array().unwrap().iter().filter_map(|case| case.get("plain_accepts")) {
        let key = kit.roster.entry(silo(&claim["signer"])).unwrap().identity;
        let (message, signature) = (bytes(&claim["message"]), fixed(&claim["signature"]));
        assert!(primitives::plain_verify(&key.0, &message, &signature), "{claim}");
        assert!(key.verify_bytes(&message, &Signature(signature)).is_err());
        found += 1;
    }
    assert_eq!(found, 18);
}

#[test]
fn slips_in_a_derivation_give_other_values() {
    let good = session();
    let confusions = negative()["confusions"].as_array().unwrap().clone();
    assert_eq!(confusions.len(), 29);
    for c in confusions {
        let at = text(&c["at"]);
        let right = good.pointer(&at).unwrap_or_else(|| panic!("{at} is not in the session"));
        assert_eq!(right.is_array(), c["value"].is_array(), "{}", c["what"]);
        assert_ne!(right, &c["value"], "{} changes nothing", c["what"]);
    }
}
