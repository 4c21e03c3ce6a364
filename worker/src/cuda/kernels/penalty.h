/* The gradient with the slope of the penalties (penalty.rs), in double precision. Without them it keeps its bits: -0 + 0 is +0. */
#pragma once

DEVICE float penalised(float g, float w, double l1, double l2) {
    double sign = w > 0.0f ? 1.0 : w < 0.0f ? -1.0 : (double)w;
    return l1 == 0.0 && l2 == 0.0 ? g : (float)((double)g + l1 * sign + 2.0 * l2 * (double)w);
}
