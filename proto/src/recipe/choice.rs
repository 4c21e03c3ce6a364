//! Settings that are one word of a few.

use serde::{Deserialize, Serialize};

/// An enum whose words are known to the errors as well as to serde, so that the two lists cannot drift apart.
macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The words that a recipe may use.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word that a recipe uses.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

choice! {
    /// Which training images are used, by their number in the training set.
    Subset {
        All = "all",
        FirstHalf = "first-half",
        SecondHalf = "second-half",
        Even = "even",
        Odd = "odd",
    }
}

choice! {
    /// Which shard of a step an image may be in.
    PartitionName {
        /// Any: every batch is drawn from all images.
        Shuffled = "shuffled",
        /// Always the same: image number i of those selected is shard i mod R's, as a `DistributedSampler` deals them out.
        Interleaved = "interleaved",
        /// Always the same: shard r has the r-th of R equal runs.
        Contiguous = "contiguous",
    }
}

choice! {
    /// What training makes smaller, and what evaluations report.
    LossName {
        /// [`torch.nn.CrossEntropyLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html)
        CrossEntropy = "cross-entropy",
        /// [`torch.nn.L1Loss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.L1Loss.html) of the logits and the
        /// one-hot label.
        L1Logits = "l1-logits",
        /// … of the softmax and the one-hot label.
        L1Softmax = "l1-softmax",
    }
}

choice! {
    /// How a model's layers behave while it is evaluated.
    EvaluationMode {
        /// Nothing is dropped, BatchNorm uses the running statistics: `model.eval()`.
        Eval = "eval",
        /// As in training: what a script measures that never calls `model.eval()`.
        Train = "train",
    }
}

choice! {
    /// Over what BatchNorm takes its statistics.
    BatchNormStatistics {
        /// Over each shard alone (ghost batches), as PyTorch's DDP does without SyncBatchNorm.
        Shard = "shard",
    }
}

choice! {
    /// As what gradients and parameters travel.
    Wire {
        F32 = "f32",
        /// Half the bytes. A shard's gradient and the parameters that workers train on are rounded to bf16 (nearest, ties to
        /// even); sums, evaluation and checkpoints keep f32.
        Bf16 = "bf16",
    }
}

choice! {
    /// What turns a gradient into a step.
    OptimizerName {
        /// [`torch.optim.SGD`](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html)
        Sgd = "sgd",
        /// [`torch.optim.Adam`](https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html): weight decay is
        /// added to the gradient.
        Adam = "adam",
        /// [`torch.optim.AdamW`](https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html): weight decay
        /// shrinks the parameters themselves.
        AdamW = "adamw",
    }
}

choice! {
    /// How the learning rate changes over the run.
    ScheduleName {
        Constant = "constant",
        /// [`StepLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html)
        Step = "step",
        /// [`MultiStepLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiStepLR.html)
        MultiStep = "multi-step",
        /// [`CosineAnnealingLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html)
        Cosine = "cosine",
    }
}

choice! {
    /// What a schedule counts.
    ScheduleUnit {
        /// The rate changes between epochs only: `scheduler.step()` at the end of each.
        Epoch = "epoch",
        /// The rate may change at every optimizer step: `scheduler.step()` after each.
        Step = "step",
    }
}
