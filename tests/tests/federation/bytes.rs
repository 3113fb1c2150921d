//! What a silo sends: the size of the masked vector per trained coordinate, and the control traffic apart.

use blindsum_protocol::plan::RoundKind;
use blindsum_tests::cluster::{self, Cluster};
use blindsum_tests::site::{SILOS, Site, Terms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_masked_vector_takes_at_most_2_4_bytes_per_coordinate_for_four_silos_at_16_bits() {
    cluster::log();
    let mut cluster = Cluster::start(Site::new(Terms { rounds: 1, ..Terms::default() })).await;
    (0..4).for_each(|i| cluster.start_silo(i, Vec::new()));
    cluster.finish().await;
    let plan = cluster.site.plan();
    let line = &cluster.site.history()[0];
    let coordinates = plan.layout().len() as f64;
    let per_coordinate = line.masked_input_bytes as f64 / coordinates;
    println!(
        "per silo and round, {coordinates} coordinates: masked vector {} bytes ({per_coordinate:.3} a coordinate; plain LoRA \
         in f32 would send {} for A and B), control messages {} bytes up, {} down",
        line.masked_input_bytes,
        2 * 4 * plan.layout().len(),
        line.control_up_bytes / 4,
        line.control_down_bytes / 4,
    );
    assert_eq!(line.masked_input_bytes, plan.params(RoundKind::TrainB).packed_bytes() as u64);
    assert_eq!(line.payload_up_bytes, SILOS.len() as u64 * line.masked_input_bytes);
    assert!(per_coordinate <= 2.4, "{per_coordinate} bytes a coordinate");
}
