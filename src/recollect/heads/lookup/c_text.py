"""The part of the exported header that is the same for every table."""

from __future__ import annotations

BODY = r"""
#define LOOKUP_H_BYTES ((LOOKUP_STATE + 7) / 8)
#define LOOKUP_PHI_BYTES ((LOOKUP_PHI + 7) / 8)
#define LOOKUP_KEY_BYTES (LOOKUP_H_BYTES * LOOKUP_H_BITS + 2 + LOOKUP_PHI_BYTES * LOOKUP_PHI_BITS)
#define LOOKUP_VALUE_BYTES (LOOKUP_H_BYTES * LOOKUP_H_BITS + 2 + LOOKUP_ANSWER_BYTES)
#define LOOKUP_KEPT (LOOKUP_BEAM > 0 ? LOOKUP_BEAM : 1)

typedef struct { int64_t distance; int32_t row; } lookup_near;

static int lookup_ones(uint64_t x)
{
#if defined(__GNUC__) && defined(__POPCNT__)
    return __builtin_popcountll(x);
#else
    x -= x >> 1 & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (int)(x * UINT64_C(0x0101010101010101) >> 56);
#endif
}

/* Eight bytes at once, of which some count; every table ends in eight bytes that nobody means. */
static uint64_t lookup_word(const unsigned char *bytes, int count)
{
    uint64_t word = (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16
        | (uint64_t)bytes[3] << 24 | (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40
        | (uint64_t)bytes[6] << 48 | (uint64_t)bytes[7] << 56;
    return count >= 8 ? word : word & ((UINT64_C(1) << 8 * count) - 1);
}

/* Sum of the differences of codes of one or two bits, plane by plane. */
static int lookup_apart(const unsigned char *a, const unsigned char *b, int bytes, int bits)
{
    int total = 0, at;
    for (at = 0; at < bytes; at += 8) {
        uint64_t high = lookup_word(a + at, bytes - at);
        uint64_t x = high ^ lookup_word(b + at, bytes - at);
        if (bits == 1) {
            total += lookup_ones(x);
        } else {
            uint64_t low = lookup_word(a + bytes + at, bytes - at);
            uint64_t y = low ^ lookup_word(b + bytes + at, bytes - at);
            total += 2 * lookup_ones(x) + lookup_ones(y) - 2 * lookup_ones(x & y & (high ^ low));
        }
    }
    return total;
}

static int64_t lookup_distance(const unsigned char *a, const unsigned char *b)
{
    const int place = LOOKUP_H_BYTES * LOOKUP_H_BITS;
    int column = a[place] - b[place], row = a[place + 1] - b[place + 1];
    if (column < 0) column = -column;
    if (row < 0) row = -row;
    return (int64_t)LOOKUP_COST_H * lookup_apart(a, b, LOOKUP_H_BYTES, LOOKUP_H_BITS)
        + (int64_t)LOOKUP_COST_L * (column + row)
        + (int64_t)LOOKUP_COST_PHI
            * lookup_apart(a + place + 2, b + place + 2, LOOKUP_PHI_BYTES, LOOKUP_PHI_BITS);
}

/* Add pixels up from the corner, so that any rectangle is four look-ups. */
static void lookup_add_up(const uint8_t *image, int32_t *sums)
{
    int row, column;
    for (column = 0; column <= LOOKUP_SIDE; column++)
        sums[column] = 0;
    for (row = 0; row < LOOKUP_SIDE; row++) {
        const int32_t *above = sums + row * (LOOKUP_SIDE + 1);
        int32_t *here = sums + (row + 1) * (LOOKUP_SIDE + 1), line = 0;
        here[0] = 0;
        for (column = 0; column < LOOKUP_SIDE; column++) {
            line += image[row * LOOKUP_SIDE + column];
            here[column + 1] = above[column + 1] + line;
        }
    }
}

/* Write what is seen around a place into the last part of a key. */
static void lookup_glimpse(const int32_t *sums, int column, int row, unsigned char *key)
{
    int patch, i, j, number = 0, byte;
    for (byte = 0; byte < LOOKUP_PHI_BYTES * LOOKUP_PHI_BITS; byte++)
        key[byte] = 0;
    for (patch = 0; patch < LOOKUP_PATCHES; patch++) {
        const int cell = lookup_cell_sides[patch], half = cell * LOOKUP_CELLS / 2;
        const int32_t *limits = lookup_limits + patch * ((1 << LOOKUP_PHI_BITS) - 1);
        int across[LOOKUP_CELLS + 1], down[LOOKUP_CELLS + 1];
        for (i = 0; i <= LOOKUP_CELLS; i++) {
            int x = column - half + i * cell, y = row - half + i * cell;
            across[i] = x < 0 ? 0 : x > LOOKUP_SIDE ? LOOKUP_SIDE : x;
            down[i] = (y < 0 ? 0 : y > LOOKUP_SIDE ? LOOKUP_SIDE : y) * (LOOKUP_SIDE + 1);
        }
        for (i = 0; i < LOOKUP_CELLS; i++) {
            for (j = 0; j < LOOKUP_CELLS; j++, number++) {
                const int32_t *top = sums + down[i], *bottom = sums + down[i + 1];
                int32_t sum = bottom[across[j + 1]] - bottom[across[j]]
                    - top[across[j + 1]] + top[across[j]];
                int code = 0, level;
                for (level = 0; level < (1 << LOOKUP_PHI_BITS) - 1; level++)
                    code += sum >= limits[level];
                for (byte = 0; byte < LOOKUP_PHI_BITS; byte++)
                    key[byte * LOOKUP_PHI_BYTES + number / 8] |= (unsigned char)
                        ((code >> (LOOKUP_PHI_BITS - 1 - byte) & 1) << number % 8);
            }
        }
    }
}

/* Keep the nearest few, nearest first; ties to the lower row. */
static int lookup_keep(lookup_near *kept, int count, int most, int64_t distance, int32_t row)
{
    int at = count < most ? count : most - 1;
    if (count == most && (distance > kept[at].distance
            || (distance == kept[at].distance && row > kept[at].row)))
        return count;
    while (at > 0 && (kept[at - 1].distance > distance
            || (kept[at - 1].distance == distance && kept[at - 1].row > row))) {
        kept[at] = kept[at - 1];
        at--;
    }
    kept[at].distance = distance;
    kept[at].row = row;
    return count < most ? count + 1 : count;
}

#if LOOKUP_BEAM > 0
typedef struct { int64_t counts, distance; int32_t center; } lookup_way;

/* Keep the best ways down, best first; ties to what came first. */
static int lookup_open(lookup_way *kept, int count, int64_t distance, int32_t center)
{
    int at = count < LOOKUP_KEPT ? count : LOOKUP_KEPT - 1;
#if LOOKUP_PIVOTS
    const int64_t counts = distance - lookup_reach[center];
#else
    const int64_t counts = distance;
#endif
    if (count == LOOKUP_KEPT && counts >= kept[at].counts)
        return count;
    while (at > 0 && kept[at - 1].counts > counts) {
        kept[at] = kept[at - 1];
        at--;
    }
    kept[at].counts = counts;
    kept[at].distance = distance;
    kept[at].center = center;
    return count < LOOKUP_KEPT ? count + 1 : count;
}

/* Give up ways that are farther than so many hundredths of the first. */
static int lookup_near_ways(lookup_way *kept, int count)
{
    int i, left = 1;
    if (!LOOKUP_SLACK) return count;
    for (i = 1; i < count; i++)
        if (kept[i].distance * 100 <= kept[0].distance * LOOKUP_SLACK) kept[left++] = kept[i];
    return left;
}

static int64_t lookup_to_row(const unsigned char *query, int32_t row)
{
    return lookup_distance(query, lookup_keys + (int64_t)row * LOOKUP_KEY_BYTES);
}

static int lookup_nearest(const unsigned char *query, int part, lookup_near *kept, int most)
{
    lookup_way ways[LOOKUP_KEPT] = {{0, 0, 0}}, next[LOOKUP_KEPT] = {{0, 0, 0}};
    int count = 1, more, i, found = 0;
    int32_t at;
    ways[0].center = -1;
    do {
        int total = 0;
        more = 0;
        for (i = 0; i < count; i++)
            if (ways[i].center >= 0 && lookup_child[ways[i].center] < 0)
                total = lookup_open(next, total, ways[i].distance, ways[i].center);
        for (i = 0; i < count; i++) {
            const int32_t above = ways[i].center;
            const int32_t node = above < 0 ? lookup_roots[part] : lookup_child[above];
            if (node < 0) continue;
            more = 1;
            for (at = lookup_node_start[node]; at < lookup_node_start[node + 1]; at++) {
#if LOOKUP_PIVOTS
                /* A center is a row; one that is the center above, too, is known. */
                const int32_t row = lookup_pivots[at];
                int64_t distance = ways[i].distance;
                if (above < 0 || row != lookup_pivots[above]) {
                    distance = lookup_to_row(query, row);
                    found = lookup_keep(kept, found, most, distance, row);
                }
#else
                const int64_t distance
                    = lookup_distance(query, lookup_centers + (int64_t)at * LOOKUP_KEY_BYTES);
#endif
                total = lookup_open(next, total, distance, at);
            }
        }
        total = lookup_near_ways(next, total);
        if (more) {
            for (i = 0; i < total; i++) ways[i] = next[i];
            count = total;
        }
    } while (more);
    for (i = 0; i < count; i++)
        for (at = lookup_leaf_start[ways[i].center];
                at < lookup_leaf_start[ways[i].center + 1]; at++) {
            const int32_t row = lookup_leaf_rows[at];
#if LOOKUP_PIVOTS
            if (row == lookup_pivots[ways[i].center]) continue;
#endif
            found = lookup_keep(kept, found, most, lookup_to_row(query, row), row);
        }
    return found;
}
#else
static int lookup_nearest(const unsigned char *query, int part, lookup_near *kept, int most)
{
    int found = 0;
    int32_t row;
    for (row = lookup_parts[part]; row < lookup_parts[part + 1]; row++)
        found = lookup_keep(kept, found, most,
            lookup_distance(query, lookup_keys + (int64_t)row * LOOKUP_KEY_BYTES), row);
    return found;
}
#endif

static int lookup_answer(int32_t row)
{
    const unsigned char *answer = lookup_values + (int64_t)row * LOOKUP_VALUE_BYTES
        + LOOKUP_H_BYTES * LOOKUP_H_BITS + 2;
    return answer[0] + (LOOKUP_ANSWER_BYTES > 1 ? answer[LOOKUP_ANSWER_BYTES - 1] << 8 : 0);
}

/* Return the class of one image, from 0. */
static int lookup_predict(const uint8_t *image)
{
    unsigned char key[LOOKUP_KEY_BYTES + 8] = {0};
    const int place = LOOKUP_H_BYTES * LOOKUP_H_BITS;
    int64_t votes[LOOKUP_CLASSES] = {0};
    lookup_near kept[LOOKUP_K] = {{0, 0}};
    int32_t sums[(LOOKUP_SIDE + 1) * (LOOKUP_SIDE + 1)];
    int named[LOOKUP_K], step, i, found = 0, best = 0;
    key[place] = key[place + 1] = LOOKUP_SIDE / 2;
    lookup_add_up(image, sums);
    for (step = 0; step < LOOKUP_STEPS; step++) {
        const int last = step == LOOKUP_STEPS - 1;
        const unsigned char *value;
        lookup_glimpse(sums, key[place], key[place + 1], key + place + 2);
        found = lookup_nearest(key, LOOKUP_PER_STEP ? step : 0, kept,
            last || LOOKUP_VOTE ? LOOKUP_K : 1);
        for (i = 0; i < found && (last || LOOKUP_VOTE); i++)
            named[i] = lookup_answer(kept[i].row);
        for (i = 0; i < found && (last || LOOKUP_VOTE); i++) {
#if LOOKUP_VOTE == 2
            /* The nearest row of each class, by how much nearer it is than the farthest row. */
            int before = 0;
            while (named[before] != named[i]) before++;
            if (before == i)
                votes[named[i]] += kept[found - 1].distance + 1 - kept[i].distance;
#else
            votes[named[i]] += (1 << 20) / (2 + i);
#endif
        }
        value = lookup_values + (int64_t)kept[0].row * LOOKUP_VALUE_BYTES;
        for (i = 0; i < place + 2; i++)
            key[i] = value[i];
    }
    for (i = 1; i < LOOKUP_CLASSES; i++)
        if (votes[i] > votes[best]) best = i;
    return best;
}
"""
