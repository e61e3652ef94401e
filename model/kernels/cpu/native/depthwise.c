/* Depthwise convolution of maps in channels_last, fused with OverLoCK's residual, GELU and sums.
 *
 * A unit of work is a vector of channels of a strip of rows of one image. Its input is widened once
 * into a zero-padded scratch tile; then two output rows at a time are held in registers, so that a
 * loaded value is used for both. In bfloat16 the tile holds each pixel beside its right neighbour,
 * and one instruction multiplies two taps of a row.
 */
#include "lanes.h"

enum { NO_STATISTIC = 0, SUMS = 1, SQUARES = 2 };

#if REGISTERS == 32
#define PIXELS 8 /* of each of two rows, whose sums are held in registers */
#define FEWER 7  /* where that divides the width, as at 224x224: no column is padding */
#else
#define PIXELS 4
#define FEWER 4
#endif
#define SCRATCH_BYTES (384 * 1024) /* of a tile: fits a second-level cache with room to spare */
#define UNITS_PER_THREAD 4
#define STRIP_BYTES (512 * 1024) /* of the map: its blocks of channels share lines of the cache */
#define LEAST_STRIP 4 /* kernels: the rows above and below a strip are read again */
#define PREFETCHED_PIXELS 8 /* hardware does not prefetch strides of many channels */

typedef struct {
    const void *features, *taps;
    const float *bias;
    void *result;
    float *partial; /* (B, strips, padded channels) */
    int64_t height, width, channels, kernel, strips, strip_rows;
    int residual, activated, statistic;
} problem_t;

INLINE int64_t tile_columns(const problem_t *p, const int pixels) {
    return blocks_of(p->width, pixels) * pixels + p->kernel;
}

/* Tile: rows of `columns` vectors; column `kernel / 2` is the map's first. */
INLINE void fill_row(
    const problem_t *p, int64_t pixel, int64_t channel, words_t *row, const int paired,
    const int bfloat16
) {
    int64_t count = p->channels - channel;
    words_t *own = row + p->kernel / 2;
    if (!paired) {
        for (int64_t x = 0; x < p->width; x++) {
            own[x] =
                (words_t)load(p->features, (pixel + x) * p->channels + channel, count, bfloat16);
        }
        return;
    }
    words_t left = {0};
    for (int64_t x = 0; x < p->width; x++) {
        const int64_t ahead = (pixel + x + PREFETCHED_PIXELS) * p->channels + channel;
        __builtin_prefetch((const uint16_t *)p->features + ahead);
        words_t value =
            widened(load_halves(p->features, (pixel + x) * p->channels + channel, count));
        own[x - 1] = left | value << 16;
        left = value;
    }
    own[p->width - 1] = left;
}

/* Add one row of the tile, times one row of taps for each of the two output rows. */
INLINE void add_row(
    lanes_t *upper, lanes_t *lower, const words_t *values, const words_t *upper_taps,
    const words_t *lower_taps, const int64_t taps, const int pixels, const int paired
) {
    const int step = paired ? 2 : 1;
    for (int64_t tap = 0; tap < taps; tap++) {
        const words_t *under = values + tap * step;
        if (upper_taps && lower_taps) {
            words_t up = upper_taps[tap], low = lower_taps[tap];
            for (int x = 0; x < pixels; x++) {
                words_t value = under[x];
                upper[x] = multiply_add(upper[x], value, up, paired);
                lower[x] = multiply_add(lower[x], value, low, paired);
            }
        } else if (upper_taps) {
            words_t up = upper_taps[tap];
            for (int x = 0; x < pixels; x++) {
                upper[x] = multiply_add(upper[x], under[x], up, paired);
            }
        } else {
            words_t low = lower_taps[tap];
            for (int x = 0; x < pixels; x++) {
                lower[x] = multiply_add(lower[x], under[x], low, paired);
            }
        }
    }
}

INLINE lanes_t finish_row(
    const problem_t *p, const lanes_t *sums, const words_t *centre, int64_t at, int64_t count,
    int64_t pixels, lanes_t statistic, const int paired, const int bfloat16
) {
    for (int64_t x = 0; x < pixels; x++) {
        lanes_t value = sums[x];
        if (p->residual) {
            value += paired ? (lanes_t)(centre[x] << 16) : (lanes_t)centre[x];
        }
        if (p->activated) {
            value = gelu(value, bfloat16);
        }
        if (p->statistic == SUMS) {
            statistic += value;
        } else if (p->statistic == SQUARES) {
            statistic += value * value;
        }
        store(p->result, at + x * p->channels, count, value, bfloat16);
    }
    return statistic;
}

INLINE lanes_t convolve_rows(
    const problem_t *p, int64_t image, int64_t channel, int64_t row, int64_t first_row,
    const words_t *tile, int64_t columns, const words_t *taps, const int64_t kernel,
    lanes_t statistic, const int pixels, const int paired, const int bfloat16
) {
    const int64_t half = kernel / 2;
    const int64_t row_taps = paired ? (kernel + 1) / 2 : kernel;
    const int has_lower = row + 1 < p->height && row + 1 < first_row + p->strip_rows;
    const int64_t end = least(p->height, row + half + 1 + has_lower);
    const int64_t tile_start = largest(0, first_row - half);
    const lanes_t bias = load_floats(p->bias + channel);
    const int64_t count = p->channels - channel;
    for (int64_t column = 0; column < p->width; column += pixels) {
        lanes_t upper[PIXELS], lower[PIXELS];
        for (int x = 0; x < pixels; x++) {
            upper[x] = lower[x] = bias;
        }
        for (int64_t y = largest(0, row - half); y < end; y++) {
            const int64_t upper_tap = y - row + half, lower_tap = upper_tap - 1;
            const words_t *values = tile + (y - tile_start) * columns + column;
            const words_t *upper_taps = upper_tap < kernel ? taps + upper_tap * row_taps : NULL;
            const words_t *lower_taps =
                has_lower && lower_tap >= 0 ? taps + lower_tap * row_taps : NULL;
            add_row(upper, lower, values, upper_taps, lower_taps, row_taps, pixels, paired);
        }
        const int64_t inside = least(pixels, p->width - column);
        const words_t *centre = tile + (row - tile_start) * columns + column + half;
        const int64_t at = ((image * p->height + row) * p->width + column) * p->channels + channel;
        statistic = finish_row(p, upper, centre, at, count, inside, statistic, paired, bfloat16);
        if (has_lower) {
            statistic = finish_row(
                p, lower, centre + columns, at + p->width * p->channels, count, inside, statistic,
                paired, bfloat16
            );
        }
    }
    return statistic;
}

/* The tile is zero beside the map's pixels: the padding. */
INLINE void convolve_unit(
    const problem_t *p, int64_t image, int64_t strip, int64_t block, words_t *tile,
    const int pixels, const int paired, const int bfloat16
) {
    const int64_t channel = block * LANES, half = p->kernel / 2;
    const int64_t columns = tile_columns(p, pixels);
    const int64_t first_row = strip * p->strip_rows;
    const int64_t end_row = least(p->height, first_row + p->strip_rows);
    const int64_t tile_start = largest(0, first_row - half);
    for (int64_t y = tile_start; y < least(p->height, end_row + half); y++) {
        const int64_t pixel = (image * p->height + y) * p->width;
        fill_row(p, pixel, channel, tile + (y - tile_start) * columns, paired, bfloat16);
    }
    const int64_t row_taps = paired ? (p->kernel + 1) / 2 : p->kernel;
    const words_t *taps = (const words_t *)p->taps + block * p->kernel * row_taps;
    lanes_t statistic = {0};
    for (int64_t row = first_row; row < end_row; row += 2) {
        if (p->kernel == 3) { /* a constant, so that the short loops are unrolled */
            statistic = convolve_rows(
                p, image, channel, row, first_row, tile, columns, taps, 3, statistic, pixels,
                paired, bfloat16
            );
        } else {
            statistic = convolve_rows(
                p, image, channel, row, first_row, tile, columns, taps, p->kernel, statistic,
                pixels, paired, bfloat16
            );
        }
    }
    if (p->partial) {
        const int64_t padded = blocks_of(p->channels, LANES) * LANES;
        store_floats(p->partial + (image * p->strips + strip) * padded + channel, statistic);
    }
}

/* One function for each set of constants: they do not propagate into a parallel region. */
typedef void (*unit_t)(const problem_t *, int64_t, int64_t, int64_t, words_t *);
#define DEFINE_UNIT(name, pixels, paired, bfloat16)                                                \
    static void name(                                                                              \
        const problem_t *p, int64_t image, int64_t strip, int64_t block, words_t *tile             \
    ) {                                                                                            \
        convolve_unit(p, image, strip, block, tile, pixels, paired, bfloat16);                     \
    }
DEFINE_UNIT(float32_by_fewer, FEWER, 0, 0)
DEFINE_UNIT(float32_by_most, PIXELS, 0, 0)
DEFINE_UNIT(bfloat16_by_fewer, FEWER, PAIRED, 1)
DEFINE_UNIT(bfloat16_by_most, PIXELS, PAIRED, 1)

static void convolve(const problem_t *p, int64_t batch, unit_t unit, int pixels) {
    const int64_t blocks = blocks_of(p->channels, LANES);
    const int64_t tile_bytes =
        (p->strip_rows + p->kernel) * tile_columns(p, pixels) * sizeof(words_t);
    words_t *tile = scratch(tile_bytes);
    memset(tile, 0, tile_bytes);
#pragma omp for collapse(3) schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        for (int64_t strip = 0; strip < p->strips; strip++) {
            for (int64_t block = 0; block < blocks; block++) {
                unit(p, image, strip, block, tile);
            }
        }
    }
    free(tile);
}

static int64_t strip_rows_for(const problem_t *p, int64_t batch, int bfloat16) {
    const int64_t row_bytes = (p->width + p->kernel + 8) * sizeof(words_t);
    const int64_t tile_rows = largest(SCRATCH_BYTES / row_bytes - p->kernel, p->kernel);
    const int64_t map_rows = STRIP_BYTES / (p->width * p->channels * bytes_of(bfloat16));
    const int64_t cached = least(tile_rows, largest(map_rows, LEAST_STRIP * p->kernel));
    const int64_t units = batch * blocks_of(p->channels, LANES);
    const int64_t strips = largest(
        blocks_of(UNITS_PER_THREAD * omp_get_num_threads(), units), blocks_of(p->height, cached)
    );
    const int64_t rows = least(p->height, largest(blocks_of(p->height, strips), p->kernel));
    return rows + rows % 2;
}

static void add_partial_sums(const float *partial, int64_t strips, int64_t channels, float *statistics) {
    const int64_t padded = blocks_of(channels, LANES) * LANES;
    memcpy(statistics, partial, channels * sizeof(float));
    for (int64_t strip = 1; strip < strips; strip++) {
        for (int64_t channel = 0; channel < channels; channel++) {
            statistics[channel] += partial[strip * padded + channel];
        }
    }
}

/* Convolve (B, H, W, C); see `depthwise` in model/kernels/cpu/ops.py. */
static void depthwise(
    const void *features, const void *taps, const float *bias, void *result, float *statistics,
    int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t kernel, int bfloat16,
    int residual, int activated, int statistic
) {
    problem_t problem = {
        features, taps,   bias, result, NULL,     height,    width,
        channels, kernel, 1,    height, residual, activated, statistic,
    };
    problem.strip_rows = strip_rows_for(&problem, batch, bfloat16);
    problem.strips = blocks_of(height, problem.strip_rows);
    const int64_t padded = blocks_of(channels, LANES) * LANES;
    if (statistic != NO_STATISTIC) {
        problem.partial = shared_scratch(batch * problem.strips * padded * sizeof(float));
    }
    if (width % FEWER == 0) {
        convolve(&problem, batch, bfloat16 ? bfloat16_by_fewer : float32_by_fewer, FEWER);
    } else {
        convolve(&problem, batch, bfloat16 ? bfloat16_by_most : float32_by_most, PIXELS);
    }
    if (statistic != NO_STATISTIC) {
#pragma omp for schedule(static)
        for (int64_t image = 0; image < batch; image++) {
            const float *partial = problem.partial + image * problem.strips * padded;
            add_partial_sums(partial, problem.strips, channels, statistics + image * channels);
        }
        free_shared(problem.partial);
    }
}

KERNEL(
    overlock_depthwise, depthwise,
    (const void *features, const void *taps, const float *bias, void *result, float *statistics,
     int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t kernel, int bfloat16,
     int residual, int activated, int statistic),
    (features, taps, bias, result, statistics, batch, height, width, channels, kernel, bfloat16,
     residual, activated, statistic),
    (POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), word[5], word[6], word[7],
     word[8], word[9], word[10], word[11], word[12], word[13])
)

/* Whether taps of bfloat16 maps are paired. */
int overlock_paired(void) { return PAIRED; }

/* Channels (or taps) in a vector. */
int overlock_lanes(void) { return LANES; }
