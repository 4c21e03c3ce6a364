//! Probabilities from logits, in f64 with our own exp: host maths differ.

/// The index of the greatest value: the first of equals, the first NaN if there is one. 0 where there are none.
pub(super) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, &value) in values.iter().enumerate() {
        if value > values[best] || (value.is_nan() && !values[best].is_nan()) {
            best = i;
        }
    }
    best
}

/// Fills `probabilities` with the softmax of as many logits, and gives the greatest logit and Σ exp(logit − greatest).
pub(super) fn softmax(logits: &[f32], probabilities: &mut [f64]) -> (f64, f64) {
    let greatest = f64::from(logits[argmax(logits)]);
    let mut sum = 0.0;
    for (p, &logit) in probabilities.iter_mut().zip(logits) {
        *p = libm::exp(f64::from(logit) - greatest);
        sum += *p;
    }
    for p in probabilities.iter_mut() {
        *p /= sum;
    }
    (greatest, sum)
}
