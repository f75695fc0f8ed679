/* 3x3 convolutions at stride 1 by F(2x2, 3x3) of Lavin & Gray (CVPR 2016, section 4.1).
 *
 * Tiles of 4x4 pixels and the weights go to another domain, in which each of 16 spots is a
 * matrix product: 16 multiplications for 4 pixels instead of 36.  The same holds for the gradient
 * of the input, a convolution itself, and that of the weight.  Comes after separable.inc.h,
 * whose names it uses.
 */
#define SPOTS 16

/* Four vectors of a tile, `step` apart, to the domain of inputs. */
INLINE void NAME(to_inputs)(VEC *tile, const int step)
{
    VEC a = tile[0], b = tile[step], c = tile[2 * step], d = tile[3 * step];
    tile[0] = a - c;
    tile[step] = b + c;
    tile[2 * step] = c - b;
    tile[3 * step] = b - d;
}

/* Two vectors to the domain of products, for the gradient of the weight. */
INLINE void NAME(to_products)(const VEC *pair, const int from, VEC *tile, const int step)
{
    VEC a = pair[0], b = pair[from];
    tile[0] = a;
    tile[step] = a + b;
    tile[2 * step] = a - b;
    tile[3 * step] = -b;
}

/* Some tiles of a map, one after the other. */
typedef struct {
    int64_t count, row, column;
} NAME(walk);

static NAME(walk) NAME(walk_of)(const tiling *t, int64_t first)
{
    int64_t count = min_of(t->rows * t->columns - first, TILES_AT_ONCE);
    return (NAME(walk)){count, first / t->columns, first % t->columns};
}

static inline void NAME(walk_on)(NAME(walk) *walk, const tiling *t)
{
    if (++walk->column == t->columns) {
        walk->column = 0;
        walk->row++;
    }
}

/* Vectors of a spot, an odd number: what belongs together does not share a set of the cache. */
#define SPOT_SIZE(blocks) (TILES_AT_ONCE * (blocks) + 1)

INLINE void NAME(inputs_fixed)(const REAL *padded, const tiling *t, const int64_t blocks,
                               NAME(walk) walk, VEC *spots)
{
    for (int64_t i = 0; i < walk.count; i++, NAME(walk_on)(&walk, t)) {
        const VEC *from =
            (const VEC *)padded + (walk.row * 2 * t->line + walk.column * 2) * blocks;
        for (int64_t block = 0; block < blocks; block++) {
            VEC tile[SPOTS], *to = spots + i * blocks + block;
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++)
#pragma GCC unroll 4
                for (int column = 0; column < 4; column++)
                    tile[row * 4 + column] = from[(row * t->line + column) * blocks + block];
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++)
                NAME(to_inputs)(tile + row * 4, 1);
#pragma GCC unroll 4
            for (int column = 0; column < 4; column++)
                NAME(to_inputs)(tile + column, 4);
#pragma GCC unroll 16
            for (int spot = 0; spot < SPOTS; spot++)
                to[spot * SPOT_SIZE(blocks)] = tile[spot];
        }
    }
}

/* Tiles of a padded map, from `first` on, to `spots`: SPOTS times SPOT_SIZE vectors. */
static int64_t NAME(inputs_to_spots)(const REAL *padded, const tiling *t, int64_t blocks,
                                     int64_t first, VEC *spots)
{
    NAME(walk) walk = NAME(walk_of)(t, first);
    FIXED(blocks, NAME(inputs_fixed)(padded, t, fixed, walk, spots));
    return walk.count;
}

INLINE void NAME(slopes_fixed)(const REAL *padded, const tiling *t, const int64_t blocks,
                               NAME(walk) walk, VEC *spots)
{
    for (int64_t i = 0; i < walk.count; i++, NAME(walk_on)(&walk, t)) {
        int64_t corner = (walk.row * 2 + 1) * t->line + walk.column * 2 + 1;
        const VEC *from = (const VEC *)padded + corner * blocks;
        for (int64_t block = 0; block < blocks; block++) {
            VEC square[4], rows[8], tile[SPOTS], *to = spots + i * blocks + block;
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                square[k] = from[(k / 2 * t->line + k % 2) * blocks + block];
#pragma GCC unroll 2
            for (int column = 0; column < 2; column++)
                NAME(to_products)(square + column, 2, rows + column, 2);
#pragma GCC unroll 4
            for (int row = 0; row < 4; row++)
                NAME(to_products)(rows + row * 2, 1, tile + row * 4, 1);
#pragma GCC unroll 16
            for (int spot = 0; spot < SPOTS; spot++)
                to[spot * SPOT_SIZE(blocks)] = tile[spot];
        }
    }
}

/* The same for a gradient of the output, of which a tile has the 2x2 pixels in its middle. */
static void NAME(slopes_to_spots)(const REAL *padded, const tiling *t, int64_t blocks,
                                  int64_t first, VEC *spots)
{
    NAME(walk) walk = NAME(walk_of)(t, first);
    FIXED(blocks, NAME(slopes_fixed)(padded, t, fixed, walk, spots));
}

INLINE void NAME(store_onto)(REAL *to, VEC value, int64_t lanes, int onto)
{
    if (onto)
        value += LOAD(to);
    STORE(to, value);
}

/* One vector of a tile from the domain of products to 2x2 pixels of `out`, those inside. */
INLINE void NAME(pixels_of)(const VEC *spots, const int64_t each, const tiling *t, int64_t y,
                            int64_t x, int64_t channels, int64_t lanes, REAL *out, int onto)
{
    VEC rows[8];
#pragma GCC unroll 4
    for (int column = 0; column < 4; column++) {
        VEC a = spots[column * each], b = spots[(4 + column) * each];
        VEC c = spots[(8 + column) * each], d = spots[(12 + column) * each];
        rows[column] = a + b + c;
        rows[4 + column] = b - c - d;
    }
#pragma GCC unroll 2
    for (int row = 0; row < 2; row++) {
        const VEC *r = rows + 4 * row;
        REAL *to = out + ((y + row) * t->width + x) * channels;
        if (y + row >= t->height)
            break;
        NAME(store_onto)(to, r[0] + r[1] + r[2], lanes, onto);
        if (x + 1 < t->width)
            NAME(store_onto)(to + channels, r[1] - r[2] - r[3], lanes, onto);
    }
}

INLINE void NAME(pixels_fixed)(const VEC *spots, const tiling *t, const int64_t blocks,
                               NAME(walk) walk, int64_t channels, REAL *out, int onto)
{
    int64_t full = channels / LANES, rest = channels % LANES;
    for (int64_t i = 0; i < walk.count; i++, NAME(walk_on)(&walk, t)) {
        const VEC *from = spots + i * blocks;
        for (int64_t block = 0; block < full; block++)
            NAME(pixels_of)(from + block, SPOT_SIZE(blocks), t, walk.row * 2, walk.column * 2,
                            channels, LANES, out + block * LANES, onto);
        if (rest)
            NAME(pixels_of)(from + full, SPOT_SIZE(blocks), t, walk.row * 2, walk.column * 2,
                            channels, rest, out + full * LANES, onto);
    }
}

/* Tiles from the domain of products to `out` (height, width, channels), or onto it. */
static void NAME(spots_to_pixels)(const VEC *spots, const tiling *t, int64_t first,
                                  int64_t channels, REAL *out, int onto)
{
    NAME(walk) walk = NAME(walk_of)(t, first);
    FIXED(ceil_div(channels, LANES),
          NAME(pixels_fixed)(spots, t, fixed, walk, channels, out, onto));
}

/* Three vectors, `step` apart, of the weight to four of its domain; both may be the same. */
INLINE void NAME(to_weights)(const VEC *taps, const int from, VEC *to, const int step)
{
    VEC a = taps[0], b = taps[from], c = taps[2 * from], half = (a + c) / 2;
    to[0] = a;
    to[step] = half + b / 2;
    to[2 * step] = half - b / 2;
    to[3 * step] = c;
}

/* A weight, as `of` says where it lies, to (SPOTS, inner, blocks of columns) vectors. */
static void NAME(winograd_pack)(VEC *packed, const REAL *weight, const layout *of)
{
    int64_t wide = ceil_div(of->columns, LANES), each = of->inner * wide;
    /* Inputs of one block after the other: what they read stays in the cache. */
    for (int64_t i = 0; i < each; i++) {
        int64_t block = i / of->inner, inner = i % of->inner, at = inner * wide + block;
        VEC taps[9], rows[12], spots[SPOTS];
        NAME(gather)(taps, 3, weight, of, inner, block * LANES);
#pragma GCC unroll 3
        for (int column = 0; column < 3; column++)
            NAME(to_weights)(taps + column, 3, rows + column, 3);
#pragma GCC unroll 4
        for (int row = 0; row < 4; row++)
            NAME(to_weights)(rows + 3 * row, 1, spots + 4 * row, 1);
#pragma GCC unroll 16
        for (int spot = 0; spot < SPOTS; spot++)
            packed[spot * each + at] = spots[spot];
    }
}

/* Four vectors of the gradient of a packed weight to three of that of the weight. */
INLINE void NAME(to_taps)(const VEC *spots, const int from, VEC *to, const int step)
{
    VEC a = spots[0], b = spots[from], c = spots[2 * from], d = spots[3 * from];
    VEC half = (b + c) / 2;
    to[0] = a + half;
    to[step] = (b - c) / 2;
    to[2 * step] = half + d;
}

/* The gradient of a weight from that of the packed one. */
static void NAME(winograd_unpack)(REAL *weight, const VEC *packed, const layout *of)
{
    int64_t wide = ceil_div(of->columns, LANES), each = of->inner * wide;
    for (int64_t i = 0; i < each; i++) {
        int64_t block = i / of->inner, inner = i % of->inner, at = inner * wide + block;
        VEC spots[SPOTS], rows[12], taps[9];
        for (int spot = 0; spot < SPOTS; spot++)
            spots[spot] = packed[spot * each + at];
        for (int column = 0; column < 4; column++)
            NAME(to_taps)(spots + column, 4, rows + column, 4);
        for (int row = 0; row < 3; row++)
            NAME(to_taps)(rows + 4 * row, 1, taps + 3 * row, 1);
        NAME(scatter)(weight, taps, 3, of, inner, block * LANES);
    }
}

/* A convolution of a padded map to `out` (height, width, channels), or onto it.
 *
 * `packed` is (SPOTS, inputs, blocks of channels) vectors; a pixel of `padded` has whole vectors.
 */
static void NAME(winograd)(const REAL *padded, const tiling *t, int64_t inputs,
                           const VEC *packed, int64_t channels, REAL *out, int onto, VEC *scratch,
                           ahead *next)
{
    int64_t blocks = ceil_div(inputs, LANES), wide = ceil_div(channels, LANES);
    int64_t each = SPOT_SIZE(blocks), each_out = SPOT_SIZE(wide), tiles;
    VEC *spots = scratch, *products = scratch + SPOTS * each;
    if (!next->parts)
        next->parts = (size_t)(SPOTS * ceil_div(t->rows * t->columns, TILES_AT_ONCE));
    for (int64_t first = 0; first < t->rows * t->columns; first += tiles) {
        tiles = NAME(inputs_to_spots)(padded, t, blocks, first, spots);
        for (int64_t spot = 0; spot < SPOTS; spot++) {
            fetch(next);
            NAME(multiply)((const REAL *)(spots + spot * each), blocks * LANES, tiles, inputs,
                           packed + spot * inputs * wide, wide * LANES,
                           (REAL *)(products + spot * each_out), 0);
        }
        NAME(spots_to_pixels)(products, t, first, channels, out, onto);
    }
}

/* Adds the gradient of the packed weight to `sums`: (SPOTS, inputs, blocks) vectors. */
static void NAME(winograd_weight)(const REAL *padded, int64_t inputs, const REAL *slopes,
                                  int64_t channels, const tiling *t, VEC *sums, VEC *scratch)
{
    int64_t blocks = ceil_div(inputs, LANES), wide = ceil_div(channels, LANES);
    int64_t each = SPOT_SIZE(blocks), each_out = SPOT_SIZE(wide), tiles;
    VEC *spots = scratch, *products = scratch + SPOTS * each;
    for (int64_t first = 0; first < t->rows * t->columns; first += tiles) {
        tiles = NAME(inputs_to_spots)(padded, t, blocks, first, spots);
        NAME(slopes_to_spots)(slopes, t, wide, first, products);
        for (int64_t spot = 0; spot < SPOTS; spot++)
            NAME(multiply_outer)((const REAL *)(spots + spot * each), inputs, blocks * LANES,
                                 (const REAL *)(products + spot * each_out), wide * LANES,
                                 wide * LANES, tiles, sums + spot * inputs * wide, 1);
    }
}
