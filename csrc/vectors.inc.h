/* Vectors of one type of number and one width: what all kernels are written in.
 *
 * REAL: float or double. VECTOR_BYTES: size of a vector. NAME(x): x with a suffix of its own.
 */
typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef REAL NAME(loose)
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
/* What a comparison of two vectors gives: all bits of a number, or none. */
typedef __typeof__((NAME(vec)){0} < (NAME(vec)){0}) NAME(mask);

#define VEC NAME(vec)
#define LOOSE NAME(loose)
#define MASK NAME(mask)
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(REAL)))
/* Sums that are made at once: as many as there are registers for. */
#if VECTOR_BYTES == 64
#define TILE 16
#else
#define TILE 8
#endif
#define INLINE static inline __attribute__((always_inline))
/* The first `lanes` numbers of a vector; the others are zero, or left alone. */
#define LOAD(pointer) NAME(load)(pointer, lanes)
#define STORE(pointer, value) NAME(store)(pointer, value, lanes)

/* Run `call` with `fixed` for a number of vectors, the usual ones as constants.
 *
 * Without them each address in a loop would need a register of its own.
 */
#define FIXED(number, call)                                                                  \
    do {                                                                                     \
        if ((number) == 1) {                                                                 \
            const int64_t fixed = 1;                                                         \
            call;                                                                            \
        } else if ((number) == 2) {                                                          \
            const int64_t fixed = 2;                                                         \
            call;                                                                            \
        } else if ((number) == 4) {                                                          \
            const int64_t fixed = 4;                                                         \
            call;                                                                            \
        } else {                                                                             \
            const int64_t fixed = (number);                                                  \
            call;                                                                            \
        }                                                                                    \
    } while (0)

INLINE VEC NAME(load)(const REAL *from, int64_t lanes)
{
    if (lanes == LANES)
        return *(const LOOSE *)from;
    VEC value = {0};
    for (int64_t lane = 0; lane < lanes; lane++)
        value[lane] = from[lane];
    return value;
}

INLINE void NAME(store)(REAL *to, VEC value, int64_t lanes)
{
    if (lanes == LANES)
        *(LOOSE *)to = value;
    else
        for (int64_t lane = 0; lane < lanes; lane++)
            to[lane] = value[lane];
}

/* The value with zeros in the places of `where`. */
INLINE VEC NAME(cleared)(VEC value, MASK where)
{
    return (VEC)((MASK)value & ~where);
}

/* max(value, 0), and NaN where there is one. */
INLINE VEC NAME(rectified)(VEC value)
{
    return NAME(cleared)(value, value < 0);
}
