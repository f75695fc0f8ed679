/* Depthwise convolutions, for one type of number and one width of vectors.
 *
 * A task is one image and as many channels as a vector has lanes.  It copies the rows that it
 * needs into a ring of rows with zeros on both sides, so that nothing else has to look at
 * borders, strides of memory or channels left over; the ring stays in the nearest cache.
 * Sums stay in registers until they are complete.
 * Comes after vectors.inc.h, whose names it uses.
 */

/* Copy some lanes of `count` pixels, with zeros for what is negative where `rectify` says so.
 *
 * The lanes left over are zero.  NaN stays NaN.
 */
static void NAME(load_row)(VEC *to, const REAL *from, int64_t count, int64_t step, int64_t lanes,
                           int rectify)
{
    if (lanes == LANES && rectify)
        for (int64_t i = 0; i < count; i++)
            to[i] = NAME(rectified)(*(const LOOSE *)(from + i * step));
    else if (lanes == LANES)
        for (int64_t i = 0; i < count; i++)
            to[i] = *(const LOOSE *)(from + i * step);
    else
        for (int64_t i = 0; i < count; i++) {
            VEC pixel = LOAD(from + i * step);
            to[i] = rectify ? NAME(rectified)(pixel) : pixel;
        }
}

/* weight[c, tap] of some channels as one vector per tap. */
static void NAME(load_weight)(VEC *to, const REAL *from, int64_t taps, int64_t lanes)
{
    for (int64_t tap = 0; tap < taps; tap++) {
        VEC values = {0};
        for (int64_t lane = 0; lane < lanes; lane++)
            values[lane] = from[lane * taps + tap];
        to[tap] = values;
    }
}

/* Rows of a map that were copied, the newest `size` of them. */
typedef struct {
    VEC *rows;          /* size * width vectors, of which the borders stay zero. */
    const REAL *source; /* First row and channel of the image. */
    int64_t size, width, left, used; /* `used` columns after `left` zeros are copied. */
    int64_t height, source_width, channels, lanes;
    int rectify;  /* Whether copies have zeros for what is negative. */
    int64_t next; /* First row that was not copied yet. */
} NAME(ring);

static void NAME(ring_init)(NAME(ring) *ring)
{
    VEC zero = {0};
    for (int64_t i = 0; i < ring->size * ring->width; i++)
        ring->rows[i] = zero;
    ring->next = 0;
}

static inline VEC *NAME(ring_row)(const NAME(ring) *ring, int64_t row)
{
    return ring->rows + row % ring->size * ring->width;
}

/* Copy what is missing of the rows from `first` to `last`. */
static void NAME(ring_advance)(NAME(ring) *ring, int64_t first, int64_t last)
{
    int64_t row = max_of(ring->next, first);
    for (; row <= min_of(last, ring->height - 1); row++)
        NAME(load_row)(NAME(ring_row)(ring, row) + ring->left,
                       ring->source + row * ring->source_width * ring->channels, ring->used,
                       ring->channels, ring->lanes, ring->rectify);
    ring->next = max_of(ring->next, row);
}

/* What an output row reads: rows of the input with the weights of each, and columns.
 *
 * An output at `at` reads the columns at + offset + j * distance of each row.
 */
typedef struct {
    int64_t rows, columns, offset, distance;
    const VEC *row[MAX_KERNEL], *weight[MAX_KERNEL];
} NAME(window);

/* `tile` neighbouring outputs, at most TILE, of which the first one is at `at`. */
INLINE void
NAME(sum_tile)(const NAME(window) *window, int64_t at, int64_t step, const int tile, REAL *out,
               int64_t out_step, int64_t lanes)
{
    VEC sum[TILE] = {{0}};
    int64_t columns = window->columns, distance = window->distance;
    for (int64_t i = 0; i < window->rows; i++) {
        const VEC *pixel = window->row[i] + at + window->offset, *weight = window->weight[i];
        for (int64_t j = 0; j < columns; j++, pixel += distance) {
            VEC factor = weight[j];
#pragma GCC unroll 16
            for (int t = 0; t < tile; t++)
                sum[t] += factor * pixel[t * step];
        }
    }
    if (lanes == LANES) {
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++)
            *(LOOSE *)(out + t * out_step) = sum[t];
    } else {
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++) {
            VEC value = sum[t];
            for (int64_t lane = 0; lane < lanes; lane++)
                out[t * out_step + lane] = value[lane];
        }
    }
}

INLINE void
NAME(sum_row_by)(const NAME(window) *window, const int64_t step, int64_t count, REAL *out,
                 int64_t out_step, int64_t lanes)
{
    int64_t i = 0;
#define SUM_TILES(tile)                                                                      \
    for (; i + (tile) <= count; i += (tile))                                                 \
        NAME(sum_tile)(window, i * step, step, tile, out + i * out_step, out_step, lanes);
#if TILE > 8
    SUM_TILES(TILE)
#endif
    SUM_TILES(8)
    SUM_TILES(4)
    SUM_TILES(1)
#undef SUM_TILES
}

/* All outputs of a row, whose neighbours read `step` columns apart. */
static void NAME(sum_row)(const NAME(window) *window, int64_t step, int64_t count, REAL *out,
                          int64_t out_step, int64_t lanes)
{
    if (step == 1)
        NAME(sum_row_by)(window, 1, count, out, out_step, lanes);
    else
        NAME(sum_row_by)(window, 2, count, out, out_step, lanes);
}

/* Columns that the outputs of a row read together, borders included. */
static int64_t NAME(span)(const conv_shape *s)
{
    return (s->out_width - 1) * s->stride_w + (s->kernel_w - 1) * s->dilation_w + 1;
}

/* Smallest and largest column of y that a column of x had to do with. */
static int64_t NAME(first_column)(const conv_shape *s)
{
    return min_of(0, floor_div(s->padding_w - (s->kernel_w - 1) * s->dilation_w, s->stride_w));
}

static int64_t NAME(last_column)(const conv_shape *s)
{
    return max_of(s->out_width, (s->width + s->padding_w) / s->stride_w + 1);
}

/* Bytes that a task needs: a ring, a row of a gradient, the weights and their sums. */
static size_t NAME(conv_scratch)(const conv_shape *s)
{
    int64_t width = max_of(NAME(span)(s), NAME(last_column)(s) - NAME(first_column)(s) + 1);
    int64_t rows = (s->kernel_h - 1) * s->dilation_h + 2;
    int64_t vectors = rows * width + s->out_width + 2 * s->kernel_h * s->kernel_w;
    return (size_t)vectors * sizeof(VEC);
}

static NAME(ring)
NAME(input_ring)(const conv_job *job, const REAL *x, int64_t lanes, VEC *memory)
{
    const conv_shape *s = job->shape;
    NAME(ring) ring = {
        .rows = memory,
        .source = x,
        .size = (s->kernel_h - 1) * s->dilation_h + 1,
        .width = NAME(span)(s),
        .left = s->padding_w,
        .used = max_of(0, min_of(s->width, NAME(span)(s) - s->padding_w)),
        .height = s->height,
        .source_width = s->width,
        .channels = s->channels,
        .lanes = lanes,
        .rectify = job->rectify,
    };
    NAME(ring_init)(&ring);
    return ring;
}

/* Which rows of x the output row reads, and by which row of the kernel. */
static int64_t NAME(rows_of)(const conv_shape *s, NAME(ring) *ring, int64_t out_row,
                             const VEC **rows, int64_t *kernel_rows)
{
    int64_t first = out_row * s->stride_h - s->padding_h, count = 0;
    NAME(ring_advance)(ring, max_of(first, 0), first + (s->kernel_h - 1) * s->dilation_h);
    for (int64_t k = 0; k < s->kernel_h; k++) {
        int64_t row = first + k * s->dilation_h;
        if (row < 0 || row >= s->height)
            continue;
        rows[count] = NAME(ring_row)(ring, row);
        kernel_rows[count++] = k;
    }
    return count;
}

/* y of one image and vector of channels. */
static void NAME(conv_forward)(const void *data, int64_t index, void *scratch)
{
    const conv_job *job = data;
    const conv_shape *s = job->shape;
    int64_t blocks = ceil_div(s->channels, LANES), image = index / blocks;
    int64_t channel = index % blocks * LANES, lanes = min_of(LANES, s->channels - channel);
    int64_t taps = s->kernel_h * s->kernel_w;
    VEC *weight = scratch;
    NAME(load_weight)(weight, (const REAL *)job->weight + channel * taps, taps, lanes);
    const REAL *x = (const REAL *)job->x + image * s->height * s->width * s->channels + channel;
    REAL *y = (REAL *)job->out + image * s->out_height * s->out_width * s->channels + channel;
    NAME(ring) ring = NAME(input_ring)(job, x, lanes, weight + taps);
    NAME(window) window = {.columns = s->kernel_w, .offset = 0, .distance = s->dilation_w};
    for (int64_t i = 0; i < s->out_height; i++) {
        int64_t kernel_rows[MAX_KERNEL];
        window.rows = NAME(rows_of)(s, &ring, i, window.row, kernel_rows);
        for (int64_t k = 0; k < window.rows; k++)
            window.weight[k] = weight + kernel_rows[k] * s->kernel_w;
        NAME(sum_row)(&window, s->stride_w, s->out_width,
                      y + i * s->out_width * s->channels, s->channels, lanes);
    }
}

/* Clear the gradient of a row where x is not above 0. */
static void NAME(mask_row)(REAL *grad, const REAL *x, int64_t count, int64_t step, int64_t lanes)
{
    if (lanes == LANES)
        for (int64_t i = 0; i < count; i++, grad += step, x += step)
            *(LOOSE *)grad = NAME(cleared)(*(LOOSE *)grad, *(const LOOSE *)x <= 0);
    else
        for (int64_t i = 0; i < count; i++, grad += step, x += step)
            STORE(grad, NAME(cleared)(LOAD(grad), LOAD(x) <= 0));
}

/* The gradient of x of one image and vector of channels; `x` is read to rectify alone.
 *
 * With a stride, neighbours in x have to do with different taps: each class of columns that
 * share theirs is a plain convolution of y.
 */
static void NAME(conv_input)(const void *data, int64_t index, void *scratch)
{
    const conv_job *job = data;
    const conv_shape *s = job->shape;
    int64_t blocks = ceil_div(s->channels, LANES), image = index / blocks;
    int64_t channel = index % blocks * LANES, lanes = min_of(LANES, s->channels - channel);
    int64_t taps = s->kernel_h * s->kernel_w;
    VEC *weight = scratch, *packed = weight + taps;
    NAME(load_weight)(weight, (const REAL *)job->weight + channel * taps, taps, lanes);
    int64_t start = image * s->height * s->width * s->channels + channel;
    REAL *x = (REAL *)job->out + start;
    const REAL *source = (const REAL *)job->x + (job->rectify ? start : 0);
    int64_t left = -NAME(first_column)(s);
    NAME(ring) ring = {
        .rows = packed + taps,
        .source = (const REAL *)job->grad
                  + image * s->out_height * s->out_width * s->channels + channel,
        .size = (s->kernel_h - 1) * s->dilation_h / s->stride_h + 1,
        .width = left + NAME(last_column)(s) + 1,
        .left = left,
        .used = s->out_width,
        .height = s->out_height,
        .source_width = s->out_width,
        .channels = s->channels,
        .lanes = lanes,
    };
    NAME(ring_init)(&ring);
    NAME(window) windows[MAX_STRIDE];
    const VEC *weights[MAX_STRIDE];
    for (int64_t phase = 0; phase < s->stride_w; phase++) {
        NAME(window) *window = windows + phase;
        *window = (NAME(window)){.columns = 0};
        weights[phase] = packed;
        /* The taps that divide evenly, next to each other for each row of the kernel. */
        for (int64_t k = 0; k < s->kernel_h; k++) {
            window->columns = 0;
            for (int64_t j = 0; j < s->kernel_w; j++) {
                int64_t column = phase + s->padding_w - j * s->dilation_w;
                int64_t at = floor_div(column, s->stride_w);
                if (column != at * s->stride_w)
                    continue;
                if (window->columns == 0)
                    window->offset = left + at;
                else if (window->columns == 1)
                    window->distance = left + at - window->offset;
                window->columns++;
                *packed++ = weight[k * s->kernel_w + j];
            }
        }
    }
    for (int64_t i = 0; i < s->height; i++) {
        int64_t last = floor_div(i + s->padding_h, s->stride_h);
        NAME(ring_advance)(&ring, max_of(last - ring.size + 1, 0), last);
        for (int64_t phase = 0; phase < min_of(s->stride_w, s->width); phase++) {
            NAME(window) *window = windows + phase;
            window->rows = 0;
            for (int64_t k = 0; k < s->kernel_h; k++) {
                int64_t row = i + s->padding_h - k * s->dilation_h;
                if (row < 0 || row % s->stride_h || row / s->stride_h >= s->out_height)
                    continue;
                window->row[window->rows] = NAME(ring_row)(&ring, row / s->stride_h);
                window->weight[window->rows++] = weights[phase] + k * window->columns;
            }
            NAME(sum_row)(window, 1, ceil_div(s->width - phase, s->stride_w),
                          x + (i * s->width + phase) * s->channels, s->stride_w * s->channels,
                          lanes);
        }
        if (job->rectify)
            NAME(mask_row)(x + i * s->width * s->channels,
                           source + i * s->width * s->channels, s->width, s->channels, lanes);
    }
}

/* Add to the sums of `taps` neighbouring weights what one row of y and one of x have to say.
 *
 * `wide` pixels have sums of their own, so that none waits for its predecessor.
 */
INLINE void
NAME(weigh_taps)(const VEC *grad, const VEC *row, int64_t count, const int64_t step,
                 int64_t dilation, const int taps, const int wide, VEC *sums)
{
    VEC sum[4][5] = {{{0}}};
    int64_t i = 0;
    for (; i + wide <= count; i += wide) {
#pragma GCC unroll 4
        for (int t = 0; t < wide; t++) {
            VEC slope = grad[i + t];
#pragma GCC unroll 5
            for (int j = 0; j < taps; j++)
                sum[t][j] += slope * row[(i + t) * step + j * dilation];
        }
    }
    for (; i < count; i++) {
#pragma GCC unroll 5
        for (int j = 0; j < taps; j++)
            sum[0][j] += grad[i] * row[i * step + j * dilation];
    }
#pragma GCC unroll 5
    for (int j = 0; j < taps; j++) {
        VEC total = sum[0][j];
#pragma GCC unroll 4
        for (int t = 1; t < wide; t++)
            total += sum[t][j];
        sums[j] += total;
    }
}

INLINE void
NAME(weigh_row_by)(const VEC *grad, const VEC *row, int64_t count, const int64_t step,
                   int64_t dilation, int64_t taps, VEC *sums)
{
    while (taps > 0) {
        int64_t now = taps == 5 ? 5 : min_of(taps, 4);
        switch (now) {
        case 5:
            NAME(weigh_taps)(grad, row, count, step, dilation, 5, 2, sums);
            break;
        case 4:
            NAME(weigh_taps)(grad, row, count, step, dilation, 4, 2, sums);
            break;
        case 3:
            NAME(weigh_taps)(grad, row, count, step, dilation, 3, 4, sums);
            break;
        case 2:
            NAME(weigh_taps)(grad, row, count, step, dilation, 2, 4, sums);
            break;
        default:
            NAME(weigh_taps)(grad, row, count, step, dilation, 1, 4, sums);
        }
        row += now * dilation;
        sums += now;
        taps -= now;
    }
}

/* The part that one image has in the gradient of the weights: out[task][tap][lane]. */
static void NAME(conv_weight)(const void *data, int64_t index, void *scratch)
{
    const conv_job *job = data;
    const conv_shape *s = job->shape;
    int64_t blocks = ceil_div(s->channels, LANES), image = index / blocks;
    int64_t channel = index % blocks * LANES, lanes = min_of(LANES, s->channels - channel);
    int64_t taps = s->kernel_h * s->kernel_w;
    VEC *sums = scratch, *slopes = sums + taps;
    for (int64_t tap = 0; tap < taps; tap++)
        sums[tap] = (VEC){0};
    const REAL *x = (const REAL *)job->x + image * s->height * s->width * s->channels + channel;
    const REAL *grad = (const REAL *)job->grad
                       + image * s->out_height * s->out_width * s->channels + channel;
    NAME(ring) ring = NAME(input_ring)(job, x, lanes, slopes + s->out_width);
    for (int64_t i = 0; i < s->out_height; i++) {
        const VEC *rows[MAX_KERNEL];
        int64_t kernel_rows[MAX_KERNEL], count = NAME(rows_of)(s, &ring, i, rows, kernel_rows);
        NAME(load_row)(slopes, grad + i * s->out_width * s->channels, s->out_width,
                       s->channels, lanes, 0);
        for (int64_t k = 0; k < count; k++) {
            VEC *to = sums + kernel_rows[k] * s->kernel_w;
            if (s->stride_w == 1)
                NAME(weigh_row_by)(slopes, rows[k], s->out_width, 1, s->dilation_w,
                                   s->kernel_w, to);
            else
                NAME(weigh_row_by)(slopes, rows[k], s->out_width, 2, s->dilation_w,
                                   s->kernel_w, to);
        }
    }
    LOOSE *out = (LOOSE *)((REAL *)job->out + index * taps * LANES);
    for (int64_t tap = 0; tap < taps; tap++)
        out[tap] = sums[tap];
}
