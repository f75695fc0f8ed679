/* Products of matrices that are small enough for the cache.
 *
 * The matrix at the right is packed: its rows are whole vectors.  Comes after vectors.inc.h,
 * whose names it uses.
 */

/* Rows of vectors of a matrix `from` of (inner, columns), or of its transpose. */
static void NAME(matrix_pack)(void *packed, const void *matrix, int64_t inner, int64_t columns,
                              int transposed)
{
    const REAL *from = matrix;
    REAL *to = packed;
    int64_t width = ceil_div(columns, LANES) * LANES;
    for (int64_t i = 0; i < inner; i++)
        for (int64_t j = 0; j < width; j++)
            to[i * width + j] = j >= columns ? 0
                                : transposed ? from[j * inner + i]
                                             : from[i * columns + j];
}

/* The taps of one input and some columns of a weight, as vectors. */
INLINE void NAME(gather)(VEC *taps, const int size, const REAL *weight, const layout *of,
                         int64_t inner, int64_t column)
{
    const REAL *from = weight + inner * of->inner_step + column * of->column_step;
    int64_t lanes = min_of(LANES, of->columns - column);
    /* By way of memory: to put numbers into a vector one by one takes far longer. */
    VEC memory[9] = {{0}};
    for (int64_t lane = 0; lane < lanes; lane++, from += of->column_step)
        for (int row = 0; row < size; row++)
            for (int tap = 0; tap < size; tap++)
                ((REAL *)(memory + row * size + tap))[lane] =
                    from[row * of->row_step + tap * of->tap_step];
    for (int tap = 0; tap < size * size; tap++)
        taps[tap] = memory[tap];
}

/* The other way. */
INLINE void NAME(scatter)(REAL *weight, const VEC *taps, const int size, const layout *of,
                          int64_t inner, int64_t column)
{
    REAL *to = weight + inner * of->inner_step + column * of->column_step;
    int64_t lanes = min_of(LANES, of->columns - column);
    VEC memory[9];
    for (int tap = 0; tap < size * size; tap++)
        memory[tap] = taps[tap];
    for (int64_t lane = 0; lane < lanes; lane++, to += of->column_step)
        for (int row = 0; row < size; row++)
            for (int tap = 0; tap < size; tap++)
                to[row * of->row_step + tap * of->tap_step] =
                    ((const REAL *)(memory + row * size + tap))[lane];
}

/* `tile` rows of a matrix times `wide` vectors of each row of a packed one, or onto `out`. */
INLINE void NAME(multiply_tile)(const REAL *a, int64_t a_step, int64_t inner, const VEC *b,
                                int64_t blocks, const int tile, const int wide, REAL *out,
                                int64_t columns, int64_t lanes, int onto)
{
    VEC sum[TILE][2] = {{{0}}};
    if (onto)
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
            for (int w = 0; w < wide; w++)
                sum[t][w] = LOAD(out + t * columns + w * LANES);
    for (int64_t k = 0; k < inner; k++) {
        const VEC *factor = b + k * blocks;
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
            for (int w = 0; w < wide; w++)
                sum[t][w] += a[t * a_step + k] * factor[w];
    }
#pragma GCC unroll 16
    for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
        for (int w = 0; w < wide; w++)
            STORE(out + t * columns + w * LANES, sum[t][w]);
}

INLINE void NAME(multiply_by)(const REAL *a, const int64_t a_step, int64_t rows, int64_t inner,
                              const VEC *b, int64_t blocks, const int tile, const int wide,
                              REAL *out, int64_t columns, int64_t lanes, int onto)
{
    int64_t i = 0;
#define TILES(tile)                                                                          \
    for (; i + (tile) <= rows; i += (tile))                                                  \
        NAME(multiply_tile)(a + i * a_step, a_step, inner, b, blocks, tile, wide,            \
                            out + i * columns, columns, lanes, onto);
    TILES(tile)
    TILES(4)
    TILES(1)
#undef TILES
}

INLINE void NAME(multiply_fixed)(const REAL *a, const int64_t a_step, int64_t rows,
                                 int64_t inner, const VEC *b, const int64_t columns, REAL *out,
                                 int onto)
{
    int64_t blocks = ceil_div(columns, LANES), full = columns / LANES, block = 0;
    /* Most tiles fill the registers; smaller ones leave no rows over where there are few. */
    if (rows % (TILE * 3 / 4) == 0 || rows > 8 * TILE)
        for (; block + 2 <= full; block += 2)
            NAME(multiply_by)(a, a_step, rows, inner, b + block, blocks, TILE * 3 / 4, 2,
                              out + block * LANES, columns, LANES, onto);
    for (; block + 2 <= full; block += 2)
        NAME(multiply_by)(a, a_step, rows, inner, b + block, blocks, TILE / 2, 2,
                          out + block * LANES, columns, LANES, onto);
    for (; block < full; block++)
        NAME(multiply_by)(a, a_step, rows, inner, b + block, blocks, TILE, 1,
                          out + block * LANES, columns, LANES, onto);
    if (block < blocks)
        NAME(multiply_by)(a, a_step, rows, inner, b + block, blocks, TILE, 1,
                          out + block * LANES, columns, columns - block * LANES, onto);
}

/* out (rows, columns) = a times a packed matrix, or what it is more by that with `onto`.
 *
 * A row of a has `inner` numbers, and the next one is `a_step` further.
 */
static void NAME(multiply)(const REAL *a, int64_t a_step, int64_t rows, int64_t inner,
                           const VEC *b, int64_t columns, REAL *out, int onto)
{
    if (a_step == columns && columns % LANES == 0)
        FIXED(columns / LANES, NAME(multiply_fixed)(a, fixed * LANES, rows, inner, b,
                                                    fixed * LANES, out, onto));
    else
        NAME(multiply_fixed)(a, a_step, rows, inner, b, columns, out, onto);
}

/* `tile` rows, each of `wide` vectors, of the product of a transposed with b, or onto it. */
INLINE void NAME(outer_tile)(const REAL *a, int64_t a_step, const REAL *b, int64_t b_step,
                             int64_t rows, const int tile, const int wide, int64_t lanes,
                             VEC *out, int64_t blocks, int onto)
{
    VEC sum[TILE][2] = {{{0}}};
    if (onto)
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
            for (int w = 0; w < wide; w++)
                sum[t][w] = out[t * blocks + w];
    for (int64_t i = 0; i < rows; i++, a += a_step, b += b_step) {
        VEC factor[2];
#pragma GCC unroll 2
        for (int w = 0; w < wide; w++)
            factor[w] = LOAD(b + w * LANES);
#pragma GCC unroll 16
        for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
            for (int w = 0; w < wide; w++)
                sum[t][w] += a[t] * factor[w];
    }
#pragma GCC unroll 16
    for (int t = 0; t < tile; t++)
#pragma GCC unroll 2
        for (int w = 0; w < wide; w++)
            out[t * blocks + w] = sum[t][w];
}

INLINE void NAME(outer_by)(const REAL *a, int64_t a_columns, int64_t a_step, const REAL *b,
                           int64_t b_step, int64_t rows, const int tile, const int wide,
                           int64_t lanes, VEC *out, int64_t blocks, int onto)
{
    int64_t i = 0;
#define TILES(tile)                                                                          \
    for (; i + (tile) <= a_columns; i += (tile))                                             \
        NAME(outer_tile)(a + i, a_step, b, b_step, rows, tile, wide, lanes,                  \
                         out + i * blocks, blocks, onto);
    TILES(tile)
    TILES(4)
    TILES(1)
#undef TILES
}

INLINE void NAME(outer_fixed)(const REAL *a, int64_t a_columns, int64_t a_step, const REAL *b,
                              const int64_t b_columns, int64_t b_step, int64_t rows, VEC *out,
                              int onto)
{
    int64_t blocks = ceil_div(b_columns, LANES), full = b_columns / LANES, block = 0;
    for (; block + 2 <= full; block += 2)
        NAME(outer_by)(a, a_columns, a_step, b + block * LANES, b_step, rows, TILE / 2, 2, LANES,
                       out + block, blocks, onto);
    for (; block < full; block++)
        NAME(outer_by)(a, a_columns, a_step, b + block * LANES, b_step, rows, TILE, 1, LANES,
                       out + block, blocks, onto);
    if (block < blocks)
        NAME(outer_by)(a, a_columns, a_step, b + block * LANES, b_step, rows, TILE, 1,
                       b_columns - block * LANES, out + block, blocks, onto);
}

/* out (a_columns, b_columns in whole vectors) = a transposed times b, or more by that. */
static void NAME(multiply_outer)(const REAL *a, int64_t a_columns, int64_t a_step,
                                 const REAL *b, int64_t b_columns, int64_t b_step,
                                 int64_t rows, VEC *out, int onto)
{
    if (b_columns % LANES == 0)
        FIXED(b_columns / LANES, NAME(outer_fixed)(a, a_columns, a_step, b, fixed * LANES, b_step,
                                                   rows, out, onto));
    else
        NAME(outer_fixed)(a, a_columns, a_step, b, b_columns, b_step, rows, out, onto);
}

/* parts[0] = the sum of `number` parts of `size` numbers each, made in double precision. */
static void NAME(parts_sum)(void *parts, int64_t number, int64_t size)
{
    REAL *to = parts;
    for (int64_t i = 0; i < size; i += TILE) {
        double sum[TILE] = {0};
        int64_t count = min_of(TILE, size - i);
        for (int64_t part = 0; part < number; part++) {
            const REAL *from = to + part * size + i;
            if (count == TILE)
                for (int64_t j = 0; j < TILE; j++)
                    sum[j] += from[j];
            else
                for (int64_t j = 0; j < count; j++)
                    sum[j] += from[j];
        }
        for (int64_t j = 0; j < count; j++)
            to[i + j] = (REAL)sum[j];
    }
}
