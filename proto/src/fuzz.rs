//! Every decoder of this crate on bytes that nobody would write: no panic, no end of waiting, no memory beyond its bound.

use lockstep_fuzz::{Bound, cases, damaged, numbers};
use proptest::prelude::*;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::recipe::model::ModelSpec;
use crate::recipe::{Recipe, Setting, catalogue};
use crate::records::{PIXELS, Records, Split};
use crate::seal;
use crate::shared::Shared;
use crate::tensors::{Assembly, digest as digest_of, into_bytes};
use crate::wire::{self, SharedRegion};

/// A copy of what was read, and the copies that growing takes. Messages below have their own.
const COPY: Bound = Bound { each: 4, constant: 1 << 16 };

/// The smallest entry of a list is 2 bytes on the wire and up to 130 in memory (`WorkerStatus`); growing holds three halves of
/// it. A message is refused by tonic at 4 MiB, so that 1 GiB is the most that one can take.
const MESSAGE: Bound = Bound { each: 256, constant: 1 << 16 };

/// A byte may be a token, an event and a value to the TOML reader, and the text is read three times. Above 1 MiB it is refused.
const TOML: Bound = Bound { each: 1500, constant: 1 << 20 };

fn records() -> Records {
    let split = |n: usize| Split {
        pixels: (0..n * PIXELS).map(|i| (i % 251) as u8).collect(),
        labels: (0..n).map(|i| (i % 2) as u8).collect(),
    };
    Records { classes: vec!["cat".into(), "dog".into()], train: split(2), test: split(1) }
}

/// The file with the checksum that belongs to it: what comes after the checksum is never reached otherwise.
fn signed(mut file: Vec<u8>) -> Vec<u8> {
    if let Some(at) = file.len().checked_sub(32) {
        let sum = blake3::hash(&file[..at]);
        file[at..].copy_from_slice(sum.as_bytes());
    }
    file
}

/// Every message that travels, with something in each field.
fn messages() -> Vec<Vec<u8>> {
    use wire::{from_worker, lease, to_worker};
    let node = Some(wire::Node { level: 1, index: 2 });
    let region = SharedRegion { path: "/proc/1/fd/3".to_owned(), nonce: vec![7; 16], values: 62_006, slots: 2 };
    let outcome = wire::ShardOutcome { shard: 1, loss_sum: 2.5, correct: 3, count: 16, digest: 99 };
    let summary = wire::GradientSummary { digest: 5, outcomes: vec![outcome; 4], compute_us: 6, ..Default::default() };
    let shards = vec![wire::Shard { shard: 3, examples: (0..16).collect() }; 2];
    let worker = |message| wire::FromWorker { message: Some(message) }.encode_to_vec();
    let coordinator = |message| wire::ToWorker { message: Some(message) }.encode_to_vec();
    let lease = |work| wire::Lease {
        lease: 7,
        version: 8,
        work: Some(work),
        own: Some(wire::OwnStep { lr: 0.1, report: wire::Report::State.into() }),
    };
    vec![
        worker(from_worker::Message::Hello(wire::Hello {
            protocol: 2,
            build: "0.1.0".to_owned(),
            device_class: "cpu/v4".to_owned(),
            name: "here-1".to_owned(),
            threads: 2,
            foreign: false,
            nccl: 22_703,
            gpu: "0f".repeat(16),
        })),
        worker(from_worker::Message::Ready(wire::Ready {
            schema_fingerprint: "a".repeat(32),
            data_hash: "b".repeat(64),
            shared: true,
            makes_steps: true,
        })),
        worker(from_worker::Message::Gradient(wire::Gradient {
            lease: 7,
            version: 8,
            node,
            offset: 9,
            data: vec![1; 40].into(),
            summary: Some(summary.clone()),
            bf16: true,
            slot: Some(1),
        })),
        worker(from_worker::Message::Part(wire::Part { lease: 7, version: 8, summary: Some(summary.clone()) })),
        worker(from_worker::Message::Made(wire::Made {
            lease: 7,
            version: 8,
            node,
            summary: Some(summary),
            penalty: 0.5,
            norm: 2.5,
        })),
        worker(from_worker::Message::State(wire::StatePart {
            lease: 7,
            steps: 9,
            name: "exp_avg".to_owned(),
            offset: 4,
            data: vec![2; 40].into(),
            digest: 5,
            slot: Some(1),
        })),
        worker(from_worker::Message::Ring(wire::RingNews {
            generation: 3,
            news: Some(wire::ring_news::News::Named(vec![7; wire::RING_ID_BYTES])),
        })),
        coordinator(to_worker::Message::FormRing(wire::FormRing {
            generation: 3,
            rank: 1,
            size: 2,
            id: vec![7; wire::RING_ID_BYTES],
        })),
        coordinator(to_worker::Message::DissolveRing(wire::DissolveRing { generation: 3 })),
        worker(from_worker::Message::Evaluation(wire::Evaluation {
            lease: 7,
            version: 8,
            loss_sum: 1.5,
            correct: 3,
            count: 4,
            confusion: vec![1; 100],
            alive: vec![2; 10],
        })),
        coordinator(to_worker::Message::Welcome(wire::Welcome {
            worker: 1,
            run: "run".to_owned(),
            recipe: "epochs = 1\n".to_owned(),
            schema_fingerprint: "a".repeat(32),
            data_hash: "b".repeat(64),
            data_bytes: 1 << 20,
            heartbeat_ms: 500,
            shared: Some(wire::SharedMemory { parameters: Some(region.clone()), gradients: Some(region) }),
        })),
        coordinator(to_worker::Message::Parameters(wire::Parameters {
            version: 3,
            offset: 4,
            total: 62_006,
            data: vec![2; 40].into(),
            digest: 5,
            bf16: true,
            slot: Some(1),
        })),
        coordinator(to_worker::Message::OptimizerState(wire::OptimizerState {
            version: 3,
            steps: 3,
            name: "exp_avg".to_owned(),
            offset: 4,
            data: vec![2; 40].into(),
            digest: 5,
        })),
        coordinator(to_worker::Message::Lease(lease(lease::Work::Shards(wire::ShardsWork {
            step: 1,
            epoch: 2,
            batch_size: 64,
            node,
            next: shards.clone(),
            shards,
            ring: 3,
            leaves: 8,
        })))),
        coordinator(to_worker::Message::Lease(lease(lease::Work::Slice(wire::SliceWork {
            evaluation: 1,
            slice: 2,
            test: true,
            examples: (0..100).collect(),
            as_trained: true,
        })))),
        wire::StatusReply { workers: vec![wire::WorkerStatus::default(); 3], ..Default::default() }.encode_to_vec(),
        wire::RecordsChunk { offset: 3, data: vec![3; 40].into() }.encode_to_vec(),
    ]
}

/// Parts of a vector as a peer may send them: in any order, of any length.
fn parts() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let data = prop_oneof![
        3 => (0..40_usize).prop_map(|n| vec![1; n]),
        1 => (-4..5_isize).prop_map(|n| vec![2; wire::CHUNK_BYTES.saturating_add_signed(n)]),
    ];
    let offset = prop_oneof![3 => 0..4_u64, 2 => Just(wire::CHUNK_BYTES as u64 / 4), 1 => numbers()];
    prop::collection::vec((offset, data), 0..4)
}

/// TOML that gets past the reader: tables of known and unknown keys with values of any type.
fn lines() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "name",
        "seed",
        "epochs",
        "batch_size",
        "shards",
        "model",
        "optimizer.lr",
        "optimizer.name",
        "optimizer.betas",
        "schedule.name",
        "schedule.milestones",
        "data.mean",
        "data.fraction",
        "wire",
        "evaluation.slice",
        "checkpoint.keep",
        "extends",
        "reported",
        "[[reported]]",
        "epoch",
        "test_accuracy",
        "model.layers",
        "model.name",
        "[model]",
        "[data]",
        "[[model.layers]]",
        "type",
        "layers",
        "ß",
        "a.b.c",
    ]);
    let value = prop_oneof![
        numbers().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}").to_lowercase()),
        "[ -~äß∞𝕏]{0,12}".prop_map(|text| format!("{text:?}")),
        Just("[]".to_owned()),
        Just("[1, 2, 3]".to_owned()),
        Just("[0.5, -1e308, nan]".to_owned()),
        Just("{ type = \"residual\", layers = [{ type = \"relu\" }] }".to_owned()),
        Just("[{ type = \"conv\", out_channels = 99999999999, kernel_size = 0 }]".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("\"cosine\"".to_owned()),
        Just("\"lenet-dropout\"".to_owned()),
        Just("\"adam\"".to_owned()),
    ];
    let line = (key, value).prop_map(|(key, value)| match key.starts_with('[') {
        true => format!("{key}\n"),
        false => format!("{key} = {value}\n"),
    });
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

fn texts() -> Vec<Vec<u8>> {
    let files = catalogue::RECIPES.iter().chain(catalogue::MODELS).map(|file| file.text.as_bytes().to_vec());
    files.chain([Recipe::default().to_toml().into_bytes()]).collect()
}

/// What a text is read as, wherever it comes from.
fn read_text(text: &str) {
    let recipe = TOML.hold(text.len(), || Recipe::parse(text, "fuzz"));
    drop(TOML.hold(text.len(), || ModelSpec::parse(text, "fuzz")));
    if let Ok(recipe) = recipe {
        // what is accepted is printed, sent to workers and kept in checkpoints: it must be readable again
        let printed = recipe.to_toml();
        let again = Recipe::parse(&printed, "printed").unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.differences(&recipe), vec![], "{text}");
    }
}

/// Messages with their seals.
fn sealed() -> Vec<Vec<u8>> {
    let seal = |message: Vec<u8>| [&message[..], &seal::field(xxh3_64(&message))].concat();
    messages().into_iter().map(seal).collect()
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn fuzz_seals(bytes in damaged(sealed())) {
        let found = COPY.hold(bytes.len(), || seal::check(&bytes));
        if let Ok(Some(length)) = found {
            prop_assert!(messages().iter().any(|message| message[..] == bytes[..length]), "a damaged message passed");
        }
    }

    #[test]
    fn fuzz_records(file in damaged(vec![records().encode().expect("fits")]), sign in any::<bool>()) {
        let file = if sign { signed(file) } else { file };
        if let Ok(found) = COPY.hold(file.len(), || Records::decode(&file)) {
            prop_assert_eq!(found.train.labels.len() * PIXELS, found.train.pixels.len());
            prop_assert_eq!(found.encode().expect("it was read"), file);
        }
    }

    #[test]
    fn fuzz_messages(bytes in damaged(messages())) {
        drop(MESSAGE.hold(bytes.len(), || wire::FromWorker::decode(&bytes[..])));
        drop(MESSAGE.hold(bytes.len(), || wire::ToWorker::decode(&bytes[..])));
        drop(MESSAGE.hold(bytes.len(), || wire::StatusReply::decode(&bytes[..])));
        drop(MESSAGE.hold(bytes.len(), || wire::RecordsChunk::decode(&bytes[..])));
    }

    #[test]
    fn fuzz_recipe_bytes(bytes in damaged(texts())) {
        read_text(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn fuzz_recipe_lines(text in lines()) {
        read_text(&text);
    }

    #[test]
    fn fuzz_settings(key in "[a-z_.]{0,20}|optimizer.lr|model|schedule.milestones|epochs", value in "\\PC{0,30}|[\\[\\]{}=.,\"'0-9a-z\n ]{0,30}") {
        let length = key.len() + value.len();
        if let Ok(setting) = Setting::parse(&format!("{key}={value}")) {
            let load = |path: &str| Err(format!("no file {path}"));
            drop(TOML.hold(length, || Recipe::resolve(None, &[setting], &load)));
        }
    }

    #[test]
    fn fuzz_regions(path in "/proc/[0-9]{1,4}/fd/[0-9]{1,2}|/proc/\\PC{0,20}|\\PC{0,20}", own in any::<bool>(),
                    nonce in prop::collection::vec(any::<u8>(), 0..20), values in numbers(), slots in numbers()) {
        // what another process of this user has open is never touched: the nonce differs at the latest
        let (_memory, region) = Shared::create(4, 2, [1; 16]).expect("memory");
        let path = if own { region.path } else { path };
        let offer = SharedRegion { path, nonce, values, slots: slots as u32 };
        if let Ok(shared) = COPY.hold(offer.path.len(), || Shared::open(&offer)) {
            prop_assert_eq!((offer.values, offer.slots, offer.nonce), (4, 2, vec![1; 16]));
            prop_assert!(shared.read(slots as usize, &mut [0.0; 4]).is_none());
        }
    }
}

proptest! {
    // a vector of half a megabyte each
    #![proptest_config(cases(500))]

    #[test]
    fn fuzz_assembly(parts in parts(), total in prop_oneof![0..8_usize, Just(wire::CHUNK_BYTES / 4), Just(wire::CHUNK_BYTES / 4 + 5)],
                     digest in any::<u64>(), right in any::<bool>()) {
        // the vector's length is the model's, never the sender's: what is sent counts for nothing
        let bound = Bound { each: 0, constant: total as u64 * 4 + (1 << 12) };
        let (assembly, accepted) = bound.hold(0, || {
            let (mut assembly, mut accepted) = (Assembly::new(total), [false; 4]);
            for ((offset, data), accepted) in parts.iter().zip(&mut accepted) {
                *accepted = assembly.add(*offset, data).is_ok();
            }
            (assembly, accepted)
        });
        let mut bytes = Vec::new();
        for ((offset, data), _) in parts.iter().zip(accepted).filter(|(_, accepted)| *accepted) {
            prop_assert!(*offset * 4 == bytes.len() as u64 && data.len() % 4 == 0);
            bytes.extend_from_slice(data);
        }
        prop_assert_eq!(assembly.is_complete(), bytes.len() == total * 4);
        let digest = if right { digest_of(&bytes) } else { digest };
        match assembly.finish(digest) {
            Ok(found) => prop_assert!(right && into_bytes(found) == bytes),
            Err(error) => prop_assert!(!right || bytes.len() < total * 4, "{error}"),
        }
    }
}

/// 12 KB that end a process: the TOML reader calls itself for each of these levels, and so does everything after it.
#[test]
fn a_text_of_six_thousand_levels_is_refused_before_it_is_read() {
    let key = "a.".repeat(78) + "a";
    let text = (0..75).fold("1".to_owned(), |inner, _| format!("{{{key} = {inner}}}"));
    let text = format!("model = {text}");
    assert!(text.len() < 13_000, "{} bytes", text.len());
    let error = TOML.hold(text.len(), || Recipe::parse(&text, "recipe")).expect_err("refused").to_string();
    assert!(error.contains("recipe: line 1 is ") && error.contains("levels deep"), "{error}");
    let error = ModelSpec::parse(&text, "m.toml").expect_err("refused").to_string();
    assert!(error.contains("m.toml: the whole file: line 1 is "), "{error}");
}
