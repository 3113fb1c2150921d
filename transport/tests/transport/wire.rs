//! The protocol's own messages under a job's limits, over real QUIC.

use std::sync::Arc;

use blindsum_adapter::{AdapterLayout, BaseShape};
use blindsum_crypto::{Digest, MaskedHeader, Signature, SiloId};
use blindsum_protocol::job::Job;
use blindsum_protocol::limits::Limits;
use blindsum_protocol::message::{AttemptId, CoordinatorMessage, Envelope, Hello, SiloMessage};
use blindsum_protocol::plan::Plan;
use blindsum_transport::codec::{Codec, CoordinatorCodec, SiloCodec};
use blindsum_transport::{Dialer, TransportError, listen};

use crate::support::{any_port, demo, names, settings};

const JOB: &str = r#"
schema = 1
name = "test"
federation = "demo"
rounds = 2
[model]
config_sha256 = "HASH"
weights_sha256 = "HASH"
tokenizer_sha256 = "HASH"
labels = ["no", "yes"]
max_sequence_tokens = 64
[lora]
method = "ffa-lora"
r = 2
lora_alpha = 4.0
target_modules = ["query", "value"]
seed = 7
head = "trained"
[training]
local_steps = 5
expected_batch_examples = 32
optimizer = "sgd"
learning_rate = 0.5
max_grad_norm = 1.0
[privacy]
mode = "none"
[aggregation]
value_bits = 16
metrics = "held-out"
[deadlines]
training_seconds = 10
phase_seconds = 2
"#;

const SHAPE: &str = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0}"#;

fn masked(round: u32) -> SiloMessage {
    let header = MaskedHeader { silo: SiloId(0), hash: Digest([1; 32]), signature: Signature([2; 64]) };
    SiloMessage::MaskedInput { at: AttemptId { round, attempt: 1 }, header }
}

#[tokio::test]
async fn a_jobs_messages_travel_and_its_limits_hold() {
    let federation = demo();
    let job: Job = toml::from_str(&JOB.replace("HASH", &"ab".repeat(32))).unwrap();
    let layout = AdapterLayout::new(&BaseShape::from_config_json(SHAPE).unwrap(), &job.lora, job.model.task()).unwrap();
    let plan = Plan::derive(&job, &federation.roster, &layout).unwrap();
    let limits = Limits::new(&plan);
    let length = limits.payload_max();

    let coordinator = CoordinatorCodec::new(limits.clone());
    let mut listener =
        listen(any_port(), &federation.coordinator, names(&federation), coordinator, settings()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let codec = SiloCodec::new(limits);
    assert_eq!(codec.payload_out(&masked(1)).unwrap(), Some(length));
    let mut dialer = Dialer::new(&address, &federation.silos[0].credentials, codec, settings()).unwrap();
    let (silo, accepted) = tokio::join!(dialer.connect(), listener.accept());
    let (mut silo, mut accepted) = (silo.unwrap(), accepted.unwrap().unwrap());

    let hello = SiloMessage::Hello(Hello {
        roster_hash: federation.roster.hash(),
        job_digest: plan.job_digest(),
        results_held: 0,
        result_hash: plan.job_digest(),
        newest: AttemptId { round: 0, attempt: 0 },
    });
    silo.send(Envelope::bare(hello.clone())).await.unwrap();
    assert_eq!(accepted.recv().await.unwrap(), Envelope::bare(hello));
    let y = Arc::new(vec![5u8; length]);
    silo.send(Envelope::with(masked(1), y.clone())).await.unwrap();
    assert_eq!(accepted.recv().await.unwrap(), Envelope::with(masked(1), y.clone()));
    accepted.send(Envelope::bare(CoordinatorMessage::Finished)).await.unwrap();
    assert_eq!(silo.recv().await.unwrap(), Envelope::bare(CoordinatorMessage::Finished));

    for wrong in [Envelope::bare(masked(1)), Envelope::with(masked(9), y.clone()), Envelope::with(masked(3), y)] {
        let error = silo.send(wrong).await.unwrap_err();
        assert!(matches!(error, TransportError::Misuse(_)), "{error}");
    }
}
