// The weights of attention, and the gradient of its scores. A row is that of one query of one head, of `queries` rows for a head,
// from the head `first` on, of all examples; bias and mask have strides for example, head, query and key.

#define MATRIX (first + row.index / queries)
#define QUERY (row.index % queries)
#define STARTED(name) \
    (MATRIX / heads * name##_example + MATRIX % heads * name##_head + QUERY * name##_query)
#define STRIDES(index, name) \
    VALUE(index, ulong, name##_example), VALUE(index + 1, ulong, name##_head), VALUE(index + 2, ulong, name##_query), \
    VALUE(index + 3, ulong, name##_key)

// A masked key, whose score is the lowest finite number.
#define IS_HIDDEN(i) \
    ((HAS_MASK && LOAD_U8(mask, mask_start + i * mask_key) == 0) || (IS_CAUSAL && i > query))

// The factor of a weight: dropout's mask has the elements of all rows, or of one head if IS_SHARED.
#define KEPT(i) \
    (random_word(words, ((IS_SHARED ? 0 : MATRIX * queries) + query) * columns + i) >> 9 < below ? factor : (real)0)

#define BIAS(i) (HAS_BIAS ? LOAD(bias, bias_start + i * bias_key) : (real)0)

// softmax(scores * scale + bias), and this times dropout's factor if HAS_DROPOUT.
KERNEL(attention_weights, READ(0, scores), READ(1, bias), READ(2, mask), WRITE(3, weights), WRITE(4, dropped),
       VALUE(5, ulong, rows), VALUE(6, uint, columns), VALUE(7, ulong, first), VALUE(8, uint, heads), VALUE(9, uint, queries),
       STRIDES(10, bias), STRIDES(14, mask), VALUE(18, real, scale), VALUE(19, ulong, key), VALUE(20, uint, below),
       VALUE(21, real, factor)) {
    SHARED(real, parts, PARTS)
    const ulong words = HAS_DROPOUT ? KEY_WORDS(key) : 0;
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    const ulong query = QUERY, bias_start = STARTED(bias), mask_start = STARTED(mask);
    KEEP(scores)
#if EACH > 0
    OF_ROW(k, i) scores_kept[k] = IS_HIDDEN(i) ? (real)LOWEST : scores_kept[k] * scale + BIAS(i);
#define SCORE(k, i) scores_kept[k]
#else
#define SCORE(k, i) (IS_HIDDEN(i) ? (real)LOWEST : LOAD(scores, row.start + i) * scale + BIAS(i))
#endif
    real largest = -INFINITE, sum = 0;
    OF_ROW(k, i) largest = LARGER(largest, SCORE(k, i));
    largest = LARGEST(largest);
    OF_ROW(k, i) sum += exp(SCORE(k, i) - largest);
    sum = SUM(sum);
    OF_ROW(k, i) {
        const real weight = exp(SCORE(k, i) - largest) / sum;
        STORE(weights, row.start + i, weight);
        if (HAS_DROPOUT) STORE(dropped, row.start + i, weight * KEPT(i));
    }
}

// weights (d - sum(weights d)) scale, where d is the gradient of the weights, behind dropout's factor; 0 for a masked key.
KERNEL(attention_gradient, READ(0, weights), READ(1, gradient), READ(2, mask), WRITE(3, dscores), VALUE(4, ulong, rows),
       VALUE(5, uint, columns), VALUE(6, ulong, first), VALUE(7, uint, heads), VALUE(8, uint, queries), STRIDES(9, mask),
       VALUE(13, real, scale), VALUE(14, ulong, key), VALUE(15, uint, below), VALUE(16, real, factor)) {
    SHARED(real, parts, PARTS)
    const ulong words = HAS_DROPOUT ? KEY_WORDS(key) : 0;
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    const ulong query = QUERY, mask_start = STARTED(mask);
    KEEP(weights)
    KEEP(gradient)
#define GRADIENT(k, i) (HAS_DROPOUT ? AT(gradient, k, i) * KEPT(i) : AT(gradient, k, i))
    real dot = 0;
    OF_ROW(k, i) dot += AT(weights, k, i) * GRADIENT(k, i);
    dot = SUM(dot);
    OF_ROW(k, i) {
        const real d = AT(weights, k, i) * (GRADIENT(k, i) - dot) * scale;
        STORE(dscores, row.start + i, IS_HIDDEN(i) ? (real)0 : d);
    }
}
