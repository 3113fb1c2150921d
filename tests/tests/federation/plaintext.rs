//! The coordinator sees nothing but the sum: its memory, its files and a capture of all packets hold no silo's update,
//! and the same search finds every update once the silos leave their masks off.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use blindsum_tests::engine::grid_points;
use blindsum_tests::process::Process;
use blindsum_tests::relay::Relay;
use blindsum_tests::scan::Scanner;
use blindsum_tests::seams::{self, Milestone, Pause};
use blindsum_tests::site::{SILOS, Site, Terms};
use blindsum_tests::unmasked::UnmaskedSilo;

use crate::{COORDINATOR, SILO};

/// Looks for the recorded updates of round 1.
fn updates(site: &Site) -> Scanner {
    let mut scanner = Scanner::new();
    for silo in SILOS {
        let update = seams::read(&site.record(silo), &seams::updated(1)).unwrap();
        scanner.add_update(silo, site.plan(), &update);
    }
    scanner
}

/// Looks for their sum (packed and as lanes), and for the adapter that it gives.
fn aggregate(site: &Site) -> Scanner {
    let update = |silo| grid_points(&seams::read(&site.record(silo), &seams::updated(1)).unwrap());
    let all = SILOS.map(update);
    let sum: Vec<i64> = (0..all[0].len()).map(|k| all.iter().map(|update| update[k]).sum()).collect();
    let adapter = seams::read(&site.record(SILOS[0]), &seams::adopted(1)).unwrap();
    let mut scanner = Scanner::new();
    scanner.add_vector("sum", site.plan(), &adapter, &sum);
    scanner
}

fn nothing(what: &str, (found, bytes): (BTreeSet<String>, u64)) {
    println!("{what}: {bytes} bytes searched, found {found:?}");
    assert!(found.is_empty(), "{what} holds updates in clear: {found:?}");
    assert!(bytes > 10_000, "{what}: {bytes} bytes are too few to have been looked at");
}

fn these(what: &str, (found, bytes): (BTreeSet<String>, u64), wanted: &[String]) {
    println!("{what}: {bytes} bytes searched, found {found:?}");
    for wanted in wanted {
        assert!(found.contains(wanted), "{wanted} is not found in {what}, which must hold it; found {found:?}");
    }
}

#[test]
fn no_update_is_in_the_packets_nor_in_the_coordinators_memory_store_or_output() {
    let site = Site::new(Terms::default());
    let (coordinator, address) = Process::coordinator(COORDINATOR, &site.write_coordinator("127.0.0.1:0"));
    let relay = Relay::start(address.parse::<SocketAddr>().unwrap());
    let mut silos: Vec<Process> = (0..)
        .zip(SILOS)
        .map(|(i, name)| {
            let config = site.write_silo(name, &relay.address().to_string());
            let pauses = [Pause::new("masked-input", 1), Pause::new("commit", 1), Pause::new("advert", 2)];
            Process::silo(SILO, &config, &site.record(name), i, &pauses)
        })
        .collect();
    let mut all_reach = |milestone: Milestone, resume: bool| {
        silos.iter_mut().for_each(|silo| silo.reached(&milestone));
        let ids: Vec<u32> = silos.iter().map(Process::id).collect();
        if resume {
            silos.iter_mut().for_each(Process::resume);
        }
        ids
    };

    // A silo itself holds its own update, as reals (integers exist block by block only): the search finds what is there.
    let ids = all_reach(Milestone::Paused("masked-input".into(), 1), false);
    let updates = updates(&site);
    these("a silo's own memory", updates.memory(ids[0]), &["east, f32".into()]);
    let (others, _) = updates.memory(ids[1]);
    assert!(!others.iter().any(|what| what.starts_with("east")), "{others:?}");
    all_reach(Milestone::Paused("masked-input".into(), 1), true);

    // Every masked input is there, no secret has been revealed.
    all_reach(Milestone::Paused("commit".into(), 1), false);
    nothing("the coordinator's memory before the votes", updates.memory(coordinator.id()));
    nothing("its store before the votes", updates.files(&site.path("state-coordinator")));
    all_reach(Milestone::Paused("commit".into(), 1), true);

    // The round is over; the coordinator waits for the next one.
    all_reach(Milestone::Paused("advert".into(), 2), false);
    nothing("the coordinator's memory after the round", updates.memory(coordinator.id()));
    nothing("its store after the round", updates.files(&site.path("state-coordinator")));
    nothing("its output", updates.files(&site.path("adapter")));
    relay.with_capture(|capture| {
        assert!(capture.datagrams > 100, "{} datagrams are too few for a round", capture.datagrams);
        nothing("the packets", (updates.find(&capture.bytes), capture.bytes.len() as u64));
    });

    // What it may know is there: the search works on these very places.
    let aggregate = aggregate(&site);
    these("the coordinator's memory", aggregate.memory(coordinator.id()), &["sum, packed".into(), "sum, f32".into()]);
    these("its store", aggregate.files(&site.path("state-coordinator")), &["sum, packed".into()]);
    these("its output", aggregate.files(&site.path("adapter")), &["sum, f32".into()]);
}

/// The search has teeth: with masks left off, by the harness alone, the same windows turn up. Packets are encrypted by TLS
/// either way, so nothing is to be found in them here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_update_is_found_in_the_coordinators_memory_and_store_when_masks_are_left_off() {
    let site = Site::new(Terms::default());
    let (coordinator, address) = Process::coordinator(COORDINATOR, &site.write_coordinator("127.0.0.1:0"));
    let mut scanner = Scanner::new();
    let mut silos = Vec::new();
    for (i, name) in (0..).zip(SILOS) {
        site.write_silo(name, &address);
        let prepared = {
            let (config, document) = site.silo_config(name);
            blindsum_silo::agent::prepare(config, &document).unwrap()
        };
        let update = grid_update(prepared.plan.layout().len(), i);
        scanner.add_update(name, site.plan(), &update);
        silos.push(UnmaskedSilo::connect(prepared, update).await);
    }
    let mut votes = tokio::task::JoinSet::new();
    for mut silo in silos {
        votes.spawn(async move {
            silo.until_vote().await;
            silo
        });
    }
    // Kept, so that their connections stay.
    let silos = votes.join_all().await;
    assert_eq!(silos.len(), 4);
    let wanted = SILOS.map(|name| format!("{name}, packed"));
    these("the coordinator's memory", scanner.memory(coordinator.id()), &wanted);
    these("its store", scanner.files(&site.path("state-coordinator")), &wanted);
}

/// Random grid points, as the exact engine makes them.
fn grid_update(length: usize, seed: u64) -> Vec<f32> {
    let mut noise = blindsum_testkit::bert::Noise::new(seed);
    (0..length).map(|_| (f64::from(noise.between(-16000, 16000)) / blindsum_tests::engine::GRID) as f32).collect()
}
