/* Losses, in f64 as on the CPU: a thread an example. */
#include "kernel.h"

enum { CROSS_ENTROPY = 0, L1_LOGITS = 1, L1_SOFTMAX = 2 };

/* Each row's loss and answer; gradient = the loss's slope / divisor. */
struct loss_rows {
    const struct inputs *inputs;
    const float *logits;
    const u32 *labels;
    float *gradient;
    u32 rows, classes;
};
KERNEL(loss_rows) {
    u32 row = HERE();
    if (row >= p.rows) return;
    u32 kind = p.inputs->loss;
    double divisor = p.inputs->divisor, *losses = p.inputs->losses;
    const float *logits = p.logits + row * p.classes;
    float *gradient = p.gradient + row * p.classes;
    u32 label = p.labels[row], best = 0;
    double classes = (double)p.classes, sum = 0.0;
    for (u32 i = 0; i < p.classes; i++) {
        /* the first of equals; the first NaN, if there is one */
        if (logits[i] > logits[best] || (logits[i] != logits[i] && logits[best] == logits[best])) best = i;
    }
    p.inputs->predictions[row] = best;
    if (kind == L1_LOGITS) {
        for (u32 i = 0; i < p.classes; i++) {
            double error = (double)logits[i] - (i == label ? 1.0 : 0.0);
            sum += fabs(error);
            /* at a hit the slope is 0; NaN is its own */
            double slope = error > 0.0 ? 1.0 : error < 0.0 ? -1.0 : error;
            gradient[i] = (float)(slope / classes / divisor);
        }
        losses[row] = sum / classes;
        return;
    }
    double greatest = (double)logits[best];
    for (u32 i = 0; i < p.classes; i++) sum += exp((double)logits[i] - greatest);
    if (kind == CROSS_ENTROPY) {
        for (u32 i = 0; i < p.classes; i++) {
            double probability = exp((double)logits[i] - greatest) / sum;
            gradient[i] = (float)((probability - (i == label ? 1.0 : 0.0)) / divisor);
        }
        losses[row] = log(sum) - ((double)logits[label] - greatest);
        return;
    }
    /* the reasons stand in worker/src/layers/loss/l1.rs */
    double right = exp((double)logits[label] - greatest) / sum, others = 0.0;
    for (u32 i = 0; i < p.classes; i++) {
        double probability = exp((double)logits[i] - greatest) / sum;
        if (i != label) others += probability;
        gradient[i] = (float)(probability * (2.0 * right / classes) / divisor);
    }
    gradient[label] = (float)(-2.0 * right * others / classes / divisor);
    losses[row] = 2.0 * others / classes;
}
