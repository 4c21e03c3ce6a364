//! Answers from the wire: put together, and checked for length, checksum and finiteness before anybody uses them.

use std::sync::Arc;

use lockstep_proto::buffers::Buffers;
use lockstep_proto::codec;
use lockstep_proto::schema::Schema;
use lockstep_proto::shared::Shared;
use lockstep_proto::tensors::{self, Assembly, PartError};
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{
    self, Evaluation, Failed, Gradient, GradientSummary, Part, RING_ID_BYTES, RingNews, ShardOutcome, ring_news,
};

use super::limits::REASON_CHARS;
use crate::actor::{Answer, RingNews as RingWord};
use crate::engine::LeaseId;
use crate::evaluation::SliceCounts;

/// Shards of a step at most (a rule of the recipe): an answer with more is none, and its error would be as long.
const MOST_SHARDS: usize = 4096;

/// Microseconds that an answer may say to have taken, a week: they are added up, and only shown.
const LONGEST_TIME: u64 = 7 * 24 * 3600 * 1_000_000;

/// A whole answer to a lease.
pub(super) type Answered = (LeaseId, Answer);

/// Gradients on their way in, one at a time.
#[derive(Debug)]
pub(super) struct Inbox {
    schema: Schema,
    buffers: Buffers,
    /// Memory that the worker may lay gradients down in.
    shared: Option<Arc<Shared>>,
    open: Option<Open>,
    /// Its gradient was refused: what is still under way of it is passed over, so that an answer is refused once.
    refused: Option<LeaseId>,
    passed: usize,
    /// Gradients that were begun and not ended.
    pub(super) abandoned: u32,
}

/// A whole gradient.
#[derive(Debug)]
struct Whole {
    values: Vec<f32>,
    /// None of them is NaN or infinite: seen when they were copied. Otherwise it must be looked for.
    finite: bool,
}

/// An unfinished gradient.
#[derive(Debug)]
struct Open {
    lease: LeaseId,
    /// How its first part said that all of them travel.
    bf16: bool,
    assembly: Assembly,
}

impl Inbox {
    pub(super) fn new(schema: Schema, buffers: Buffers, shared: Option<Arc<Shared>>) -> Self {
        Self { schema, buffers, shared, open: None, refused: None, passed: 0, abandoned: 0 }
    }

    /// Takes in a part. Returns the answer if it was the last one, or if something is wrong with it.
    pub(super) fn gradient(&mut self, mut part: Gradient) -> Option<Answered> {
        let lease = part.lease;
        let summary = part.summary.take();
        if self.refused == Some(lease) {
            self.refused = self.refused.filter(|_| summary.is_none());
            self.passed += 1;
            if self.passed > tensors::parts(self.schema.len() * 4).count() {
                // there is no end to it
                (self.passed, self.abandoned) = (0, self.abandoned + 1);
            }
            return None;
        }
        (self.refused, self.passed) = (None, 0);
        let last = summary.is_some();
        let answer = match (part.slot, summary) {
            (Some(slot), Some(summary)) => {
                self.pick_up(slot, &summary).and_then(|whole| self.complete(&part, whole, summary))
            }
            (Some(_), None) => Err("its gradient in shared memory comes without a summary".to_owned()),
            (None, summary) => match self.add(&part, summary.as_ref()) {
                Ok(None) => return None,
                Ok(Some(whole)) => {
                    let mut summary = summary.unwrap_or_default();
                    if part.bf16 {
                        // of the values, as on every other way: answers are compared by it
                        summary.digest = tensors::digest_values(&whole.values);
                    }
                    self.complete(&part, whole, summary)
                }
                Err(reason) => Err(reason),
            },
        };
        if answer.is_err() && !last {
            self.refused = Some(lease);
        }
        Some((lease, answer.unwrap_or_else(|reason| Answer::Refused { reason })))
    }

    /// Adds a part that came over the wire; all values, if it was the last.
    fn add(&mut self, part: &Gradient, summary: Option<&GradientSummary>) -> Result<Option<Whole>, String> {
        let refused = |error: PartError| format!("its gradient was refused: {error}");
        let Open { lease, bf16, mut assembly } = match self.open.take() {
            Some(open) if open.lease == part.lease => open,
            other => {
                // an unfinished one is given up: the engine re-issues its lease when the worker's session ends
                self.abandoned += u32::from(other.is_some());
                let assembly = Assembly::reuse(self.buffers.take(), self.words(part));
                Open { lease: part.lease, bf16: part.bf16, assembly }
            }
        };
        if bf16 != part.bf16 {
            return Err(format!(
                "its gradient was refused: bf16 is {} in a part and {bf16} in the first one; all parts travel alike",
                part.bf16
            ));
        }
        assembly.add(part.offset, &part.data).map_err(refused)?;
        let Some(summary) = summary else {
            self.open = Some(Open { lease, bf16, assembly });
            return Ok(None);
        };
        // packed values say nothing of what they are unpacked
        let finite = assembly.is_finite() && !bf16;
        let values = assembly.finish(summary.digest).map_err(refused)?;
        let values = match bf16 {
            true => codec::unpack(&values, self.schema.parameters(), self.schema.len()),
            false => values,
        };
        Ok(Some(Whole { values, finite }))
    }

    /// Values of a whole gradient as it travels.
    fn words(&self, part: &Gradient) -> usize {
        match part.bf16 {
            true => codec::words(self.schema.parameters(), self.schema.len()),
            false => self.schema.len(),
        }
    }

    /// Copies what lies in a slot of the shared memory, and gives the slot back.
    fn pick_up(&self, slot: u32, summary: &GradientSummary) -> Result<Whole, String> {
        let shared = self.shared.as_ref().ok_or("its gradient is in shared memory, but it has none")?;
        let mut values = self.buffers.take();
        values.resize(self.schema.len(), 0.0);
        let found = shared.read(slot as usize, &mut values).ok_or("its gradient is in a slot that is not there")?;
        shared.release(slot as usize);
        if found.digest != summary.digest {
            let error = PartError::Digest { found: found.digest, expected: summary.digest };
            return Err(format!("its gradient was refused: {error}"));
        }
        Ok(Whole { values, finite: found.finite })
    }

    fn complete(&self, part: &Gradient, whole: Whole, summary: GradientSummary) -> Result<Answer, String> {
        let Whole { values, finite } = whole;
        if !finite && let Some(at) = tensors::first_not_finite(&values) {
            let tensor = self.schema.at(at).map_or("?", |tensor| &tensor.name);
            let what = format!("its gradient has {} in tensor {tensor}", values[at]);
            return Ok(Answer::NotFinite { what });
        }
        if let Err(answer) = check(&summary) {
            return Ok(answer);
        }
        let [compute_us, encode_us, wait_us] = times(&summary);
        let (version, outcomes) = (part.version, summary.outcomes);
        Ok(match part.node {
            Some(wire::Node { level, index }) => {
                let (node, digest) = (Node { level, index }, summary.digest);
                Answer::Gradient { version, node, values, digest, outcomes, compute_us, encode_us, wait_us }
            }
            None => Answer::Part { version, values: Some(values), digest: 0, outcomes, compute_us, encode_us, wait_us },
        })
    }
}

/// What the answer may say of time.
pub(super) fn times(summary: &GradientSummary) -> [u64; 3] {
    [summary.compute_us, summary.encode_us, summary.wait_us].map(|us| us.min(LONGEST_TIME))
}

/// Whether what goes with a gradient can be: else the answer, which says why not.
pub(super) fn check(summary: &GradientSummary) -> Result<(), Answer> {
    let refused = |reason: String| Err(Answer::Refused { reason });
    if summary.outcomes.len() > MOST_SHARDS {
        return refused(format!("it has {} outcomes; a step has at most {MOST_SHARDS} shards", summary.outcomes.len()));
    }
    if let Some(outcome) = summary.outcomes.iter().find(|outcome| !outcome.loss_sum.is_finite()) {
        let what = format!("its loss of shard {} is {}", outcome.shard, outcome.loss_sum);
        return Err(Answer::NotFinite { what });
    }
    if let Some(outcome) = summary.outcomes.iter().find(|outcome| outcome.correct > outcome.count) {
        let ShardOutcome { shard, correct, count, .. } = outcome;
        return refused(format!("it has {correct} right answers in shard {shard}, of {count} examples"));
    }
    Ok(())
}

/// What a rank of a ring counted, without a sum.
pub(super) fn part(message: Part) -> Answered {
    let Part { lease, version, summary } = message;
    let summary = summary.unwrap_or_default();
    let [compute_us, encode_us, wait_us] = times(&summary);
    let answer = match check(&summary) {
        Err(answer) => answer,
        Ok(()) => {
            let (digest, outcomes) = (summary.digest, summary.outcomes);
            Answer::Part { version, values: None, digest, outcomes, compute_us, encode_us, wait_us }
        }
    };
    (lease, answer)
}

/// A worker's word on its ring, if it makes sense.
pub(super) fn ring(message: RingNews) -> Result<RingWord, String> {
    Ok(match message.news {
        Some(ring_news::News::Named(id)) if id.len() == RING_ID_BYTES => RingWord::Named { id },
        Some(ring_news::News::Named(id)) => {
            return Err(format!("it gave its ring a name of {} bytes, and they have {RING_ID_BYTES}", id.len()));
        }
        Some(ring_news::News::Formed(true)) => RingWord::Formed,
        Some(ring_news::News::Waits(true)) => RingWord::Waits,
        Some(ring_news::News::Broken(reason)) => {
            RingWord::Broken { reason: reason.chars().take(REASON_CHARS).collect() }
        }
        _ => return Err("it said nothing of its ring".to_owned()),
    })
}

pub(super) fn evaluation(message: Evaluation) -> Answered {
    let Evaluation { lease, version, loss_sum, correct, count, confusion, alive } = message;
    (lease, Answer::Slice { version, counts: SliceCounts { loss_sum, correct, count, confusion, alive } })
}

pub(super) fn failed(message: Failed) -> Answered {
    (message.lease, Answer::Failed { reason: message.reason.chars().take(REASON_CHARS).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::schema::{Kind, TensorSpec};
    use lockstep_proto::tensors::{digest_values, into_bytes};

    /// Two tensors: `a` fills the first part of a vector, `b` the second.
    fn inbox() -> Inbox {
        let tensor = |name: &str, n| TensorSpec { name: name.to_owned(), shape: vec![n], kind: Kind::Parameter };
        Inbox::new(
            Schema::new(vec![tensor("a", FIRST), tensor("b", 2)]).expect("names differ"),
            Buffers::keeping(8),
            None,
        )
    }

    const FIRST: usize = wire::CHUNK_BYTES / 4;

    fn whole(b: [f32; 2]) -> Vec<f32> {
        let mut values = vec![1.0; FIRST];
        values.extend(b);
        values
    }

    fn part(values: &[f32], offset: u64, digest: Option<u64>) -> Gradient {
        let summary = digest.map(|digest| GradientSummary { digest, ..Default::default() });
        let node = Some(wire::Node { level: 0, index: 0 });
        Gradient {
            lease: 1,
            version: 0,
            node,
            offset,
            data: into_bytes(values.to_vec()),
            summary,
            slot: None,
            bf16: false,
        }
    }

    fn reason(answered: Option<Answered>) -> String {
        match answered {
            Some((1, Answer::Refused { reason } | Answer::NotFinite { what: reason })) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_parts_make_one_answer() {
        let (mut inbox, sent) = (inbox(), whole([3.0, 4.0]));
        let digest = digest_values(&sent);
        assert!(inbox.gradient(part(&sent[..FIRST], 0, None)).is_none());
        let answered = inbox.gradient(part(&sent[FIRST..], FIRST as u64, Some(digest)));
        let Some((1, Answer::Gradient { values, .. })) = answered else { panic!("no answer") };
        assert_eq!(values, sent);
    }

    #[test]
    fn an_answer_is_refused_once_and_the_next_is_whole() {
        let (mut inbox, sent) = (inbox(), whole([3.0, 4.0]));
        let digest = digest_values(&sent);
        assert!(reason(inbox.gradient(part(&sent[..FIRST], 9, None))).contains("starts at value 9"));
        assert!(inbox.gradient(part(&sent[FIRST..], FIRST as u64, Some(digest))).is_none(), "the rest of it");
        assert!(inbox.gradient(part(&sent[..FIRST], 0, None)).is_none());
        let answered = inbox.gradient(part(&sent[FIRST..], FIRST as u64, Some(digest)));
        assert!(matches!(answered, Some((1, Answer::Gradient { .. }))));
        assert_eq!(inbox.abandoned, 0);
        assert!(inbox.gradient(part(&sent[..FIRST], 0, None)).is_none());
        assert!(inbox.gradient(Gradient { lease: 2, ..part(&sent[..FIRST], 0, None) }).is_none());
        assert_eq!(inbox.abandoned, 1);
    }

    #[test]
    fn a_gradient_in_shared_memory_is_copied_and_checked() {
        let sent = whole([3.0, 4.0]);
        let (ours, region) = Shared::create(sent.len(), 1, [9; 16]).expect("memory");
        let theirs = Shared::open(&region).expect("the same process may open it");
        let mut inbox = Inbox { shared: Some(Arc::new(ours)), ..inbox() };
        let mut lay_down = |digest: Option<u64>| {
            let slot = theirs.claim().expect("the coordinator released it");
            let found = theirs.write(slot, &sent);
            inbox.gradient(Gradient { slot: Some(slot as u32), ..part(&[], 0, Some(digest.unwrap_or(found))) })
        };
        let Some((1, Answer::Gradient { values, .. })) = lay_down(None) else { panic!("no answer") };
        assert_eq!(values, sent);
        assert!(reason(lay_down(Some(7))).contains("checksum"));
        let nowhere = Gradient { slot: Some(5), ..part(&[], 0, Some(0)) };
        assert!(reason(inbox.gradient(nowhere)).contains("slot"));
    }

    /// Found for the fuzz test: the first made a sum of another length than the model's, the second a panic.
    #[test]
    fn parts_that_travel_differently_are_refused() {
        let words = codec::words(FIRST + 2, FIRST + 2);
        let mut inbox = inbox();
        for (first, second) in [(vec![1.0; FIRST], vec![1.0; 2]), (vec![1.0; words], Vec::new())] {
            let bf16 = second.is_empty();
            let digest = digest_values(&[first.as_slice(), &second].concat());
            assert!(inbox.gradient(Gradient { bf16, ..part(&first, 0, None) }).is_none());
            let last = part(&second, first.len() as u64, Some(digest));
            let text = reason(inbox.gradient(Gradient { bf16: !bf16, ..last }));
            assert!(text.contains("all parts travel alike"), "{text}");
        }
    }

    #[test]
    fn counts_that_can_not_be_are_refused_and_long_words_are_cut() {
        let sent = whole([3.0, 4.0]);
        let with = |outcomes: Vec<ShardOutcome>| {
            let mut part = part(&sent, 0, Some(digest_values(&sent)));
            part.summary = part.summary.map(|summary| GradientSummary { outcomes, compute_us: u64::MAX, ..summary });
            inbox().gradient(part)
        };
        let outcome = ShardOutcome { shard: 3, correct: 5, count: 4, ..Default::default() };
        assert!(reason(with(vec![outcome])).contains("5 right answers in shard 3, of 4"));
        assert!(reason(with(vec![ShardOutcome::default(); 4097])).contains("4097 outcomes"));
        let Some((_, Answer::Gradient { compute_us, .. })) = with(Vec::new()) else { panic!("no answer") };
        assert_eq!(compute_us, 604_800_000_000);
        let (_, answer) = failed(Failed { lease: 1, reason: "ß".repeat(5000) });
        let Answer::Failed { reason } = answer else { panic!("{answer:?}") };
        assert_eq!(reason.chars().count(), 1000);
    }

    #[test]
    fn nan_is_named_by_tensor_and_length_and_checksum_are_checked() {
        let bad = whole([f32::NAN, 4.0]);
        let text = reason(inbox().gradient(part(&bad, 0, Some(digest_values(&bad)))));
        assert!(text.contains("NaN in tensor b"), "{text}");
        let text = reason(inbox().gradient(part(&whole([1.0; 2]), 0, Some(7))));
        assert!(text.contains("checksum"), "{text}");
        let text = reason(inbox().gradient(part(&vec![1.0; FIRST + 3], 0, Some(7))));
        assert!(text.contains("ends at value 65539"), "{text}");
        let text = reason(inbox().gradient(part(&vec![1.0; FIRST], 0, Some(7))));
        assert!(text.contains("has 65538"), "{text}");
        let text = reason(inbox().gradient(part(&[1.0; 3], 0, Some(7))));
        assert!(text.contains("256 KiB"), "{text}");
    }
}
