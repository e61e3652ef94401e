/* OverLoCK's norms and gates on maps in channels_last, one pass over the map each. */
#include "lanes.h"

#include <math.h>

#define STRIP_BYTES (128 * 1024) /* of a map, one thread's unit of work */

typedef struct {
    const void *map, *gate;
    const float *scales, *shifts; /* (B, C), (C) */
    void *result;
    int64_t pixels, channels, strip_pixels, strips;
} strips_t;

static strips_t cut_into_strips(int64_t pixels, int64_t channels, int bfloat16) {
    const int64_t strip = largest(1, STRIP_BYTES / (channels * bytes_of(bfloat16)));
    strips_t result = {
        NULL, NULL, NULL, NULL, NULL, pixels, channels, strip, blocks_of(pixels, strip)};
    return result;
}

/* Layer norm of one pixel; if `scale` is given, `identity` becomes the pixel times `scale`. */
INLINE void normalise(
    const void *map, const float *weight, const float *bias, void *result, const float *scale,
    void *identity, int64_t at, int64_t channels, const int bfloat16
) {
    lanes_t total = {0}, squares = {0};
    for (int64_t c = 0; c < channels; c += LANES) {
        total += load(map, at + c, channels - c, bfloat16);
    }
    const float mean = sum_of(total) / channels;
    for (int64_t c = 0; c < channels; c += LANES) {
        lanes_t centred = load(map, at + c, channels - c, bfloat16) - mean;
        if (channels - c < LANES) {
            centred *= ones(channels - c);
        }
        squares += centred * centred;
    }
    const float inverse = 1.0f / sqrtf(sum_of(squares) / channels + 1e-6f);
    for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t count = channels - c;
        const lanes_t value = load(map, at + c, count, bfloat16);
        const lanes_t normal = (value - mean) * inverse;
        if (scale) {
            store(identity, at + c, count, value * load(scale, c, count, FLOAT32), bfloat16);
        }
        store(
            result, at + c, count,
            normal * load(weight, c, count, FLOAT32) + load(bias, c, count, FLOAT32), bfloat16
        );
    }
}

/* (N, C) -> (N, C). If `scale` is given, `identity` = map * scale; it may be the map itself. */
static void layer_norm(
    const void *map, const float *weight, const float *bias, void *result, const float *scale,
    void *identity, int64_t pixels, int64_t channels, int bfloat16
) {
#pragma omp for schedule(static)
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
        const int64_t at = pixel * channels;
        if (bfloat16) {
            normalise(map, weight, bias, result, scale, identity, at, channels, BFLOAT16);
        } else {
            normalise(map, weight, bias, result, scale, identity, at, channels, FLOAT32);
        }
    }
}

KERNEL(
    overlock_layer_norm, layer_norm,
    (const void *map, const float *weight, const float *bias, void *result, const float *scale,
     void *identity, int64_t pixels, int64_t channels, int bfloat16),
    (map, weight, bias, result, scale, identity, pixels, channels, bfloat16),
    (POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), POINTER(5), word[6], word[7],
     word[8])
)

INLINE void sum_strip(
    const strips_t *s, int64_t image, int64_t strip, float *sums, const int squared,
    const int bfloat16
) {
    const int64_t end = least(s->pixels, (strip + 1) * s->strip_pixels);
    for (int64_t c = 0; c < s->channels; c += LANES) {
        lanes_t total = {0};
        for (int64_t pixel = strip * s->strip_pixels; pixel < end; pixel++) {
            const int64_t at = (image * s->pixels + pixel) * s->channels + c;
            const lanes_t value = load(s->map, at, s->channels - c, bfloat16);
            total += squared ? value * value : value;
        }
        store(sums, c, s->channels - c, total, FLOAT32);
    }
}

/* Sum the pixels, or their squares, (B, N, C) -> (B, C). */
static void sum_pixels(
    const void *map, float *sums, int64_t batch, int64_t pixels, int64_t channels, int squared,
    int bfloat16
) {
    strips_t s = cut_into_strips(pixels, channels, bfloat16);
    s.map = map;
    float *partial = shared_scratch(batch * s.strips * channels * sizeof(float));
#pragma omp for collapse(2) schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        for (int64_t strip = 0; strip < s.strips; strip++) {
            float *own = partial + (image * s.strips + strip) * channels;
            if (bfloat16 && squared) {
                sum_strip(&s, image, strip, own, 1, BFLOAT16);
            } else if (bfloat16) {
                sum_strip(&s, image, strip, own, 0, BFLOAT16);
            } else if (squared) {
                sum_strip(&s, image, strip, own, 1, FLOAT32);
            } else {
                sum_strip(&s, image, strip, own, 0, FLOAT32);
            }
        }
    }
#pragma omp for schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        for (int64_t c = 0; c < channels; c++) {
            float total = 0;
            for (int64_t strip = 0; strip < s.strips; strip++) {
                total += partial[(image * s.strips + strip) * channels + c];
            }
            sums[image * channels + c] = total;
        }
    }
    free_shared(partial);
}

KERNEL(
    overlock_sums, sum_pixels,
    (const void *map, float *sums, int64_t batch, int64_t pixels, int64_t channels, int squared,
     int bfloat16),
    (map, sums, batch, pixels, channels, squared, bfloat16),
    (POINTER(0), POINTER(1), word[2], word[3], word[4], word[5], word[6])
)

INLINE void
scale_strip(const strips_t *s, int64_t image, int64_t strip, const int gated, const int bfloat16) {
    const int64_t end = least(s->pixels, (strip + 1) * s->strip_pixels);
    const float *scales = s->scales + image * s->channels;
    for (int64_t pixel = strip * s->strip_pixels; pixel < end; pixel++) {
        const int64_t at = (image * s->pixels + pixel) * s->channels;
        for (int64_t c = 0; c < s->channels; c += LANES) {
            const int64_t count = s->channels - c;
            lanes_t value = load(s->map, at + c, count, bfloat16) * load(scales, c, count, FLOAT32);
            if (s->shifts) {
                value += load(s->shifts, c, count, FLOAT32);
            }
            if (gated) {
                value *= load(s->gate, at + c, count, bfloat16);
            }
            store(s->result, at + c, count, value, bfloat16);
        }
    }
}

/* Scale every channel of every image, then apply shifts and gates if given. */
static void scale_channels(const strips_t *s, int64_t batch, int bfloat16) {
#pragma omp for collapse(2) schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        for (int64_t strip = 0; strip < s->strips; strip++) {
            if (bfloat16 && s->gate) {
                scale_strip(s, image, strip, 1, BFLOAT16);
            } else if (bfloat16) {
                scale_strip(s, image, strip, 0, BFLOAT16);
            } else if (s->gate) {
                scale_strip(s, image, strip, 1, FLOAT32);
            } else {
                scale_strip(s, image, strip, 0, FLOAT32);
            }
        }
    }
}

/* Global response norm in place: map * (gamma * energy / mean energy + 1) + beta if given. */
static void response_norm(
    void *map, const float *squares, const float *gamma, const float *beta, int64_t batch,
    int64_t pixels, int64_t channels, int bfloat16
) {
    float *scales = shared_scratch(batch * channels * sizeof(float));
#pragma omp for schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        double total = 0;
        for (int64_t c = 0; c < channels; c++) {
            scales[image * channels + c] = sqrtf(squares[image * channels + c]);
            total += scales[image * channels + c];
        }
        const float inverse = (float)(1.0 / (total / channels + 1e-6));
        for (int64_t c = 0; c < channels; c++) {
            scales[image * channels + c] =
                gamma[c] * (scales[image * channels + c] * inverse) + 1.0f;
        }
    }
    strips_t s = cut_into_strips(pixels, channels, bfloat16);
    s.map = s.result = map;
    s.scales = scales;
    s.shifts = beta;
    scale_channels(&s, batch, bfloat16);
    free_shared(scales);
}

KERNEL(
    overlock_response_norm, response_norm,
    (void *map, const float *squares, const float *gamma, const float *beta, int64_t batch,
     int64_t pixels, int64_t channels, int bfloat16),
    (map, squares, gamma, beta, batch, pixels, channels, bfloat16),
    (POINTER(0), POINTER(1), POINTER(2), POINTER(3), word[4], word[5], word[6], word[7])
)

typedef struct {
    const float *reduce, *reduce_bias, *expand,
        *expand_bias; /* (hidden, C), (hidden), (hidden, C), (C) */
    int64_t hidden;
} excitation_t;

static void gates_of_image(
    const float *sums, const excitation_t *e, int64_t pixels, int64_t channels, float *gates
) {
    memcpy(gates, e->expand_bias, channels * sizeof(float));
    for (int64_t unit = 0; unit < e->hidden; unit++) {
        const float *into = e->reduce + unit * channels, *out = e->expand + unit * channels;
        lanes_t product = {0};
        for (int64_t c = 0; c < channels; c += LANES) {
            product += load(into, c, channels - c, FLOAT32) * load(sums, c, channels - c, FLOAT32);
        }
        const float hidden = sum_of(product) / pixels + e->reduce_bias[unit];
        const float active = 0.5f * hidden * (1.0f + erff(hidden * 0.70710678f));
        for (int64_t c = 0; c < channels; c += LANES) {
            const lanes_t gate = load(gates, c, channels - c, FLOAT32);
            store(
                gates, c, channels - c, gate + active * load(out, c, channels - c, FLOAT32), FLOAT32
            );
        }
    }
    for (int64_t c = 0; c < channels; c += LANES) {
        const lanes_t gate = load(gates, c, channels - c, FLOAT32);
        store(gates, c, channels - c, 1.0f / (1.0f + exponential(-gate)), FLOAT32);
    }
}

/* Squeeze-excite in place, from sums over the pixels; multiplied by `gate` (B, N, C) if given. */
static void excite(
    void *map, const float *sums, const float *reduce, const float *reduce_bias,
    const float *expand, const float *expand_bias, const void *gate, int64_t hidden, int64_t batch,
    int64_t pixels, int64_t channels, int bfloat16
) {
    const excitation_t excitation = {reduce, reduce_bias, expand, expand_bias, hidden};
    float *scales = shared_scratch(batch * channels * sizeof(float));
#pragma omp for schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        const int64_t at = image * channels;
        gates_of_image(sums + at, &excitation, pixels, channels, scales + at);
    }
    strips_t s = cut_into_strips(pixels, channels, bfloat16);
    s.map = s.result = map;
    s.gate = gate;
    s.scales = scales;
    scale_channels(&s, batch, bfloat16);
    free_shared(scales);
}

KERNEL(
    overlock_excite, excite,
    (void *map, const float *sums, const float *reduce, const float *reduce_bias,
     const float *expand, const float *expand_bias, const void *gate, int64_t hidden,
     int64_t batch, int64_t pixels, int64_t channels, int bfloat16),
    (map, sums, reduce, reduce_bias, expand, expand_bias, gate, hidden, batch, pixels, channels,
     bfloat16),
    (POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), POINTER(5), POINTER(6), word[7],
     word[8], word[9], word[10], word[11])
)
