"""The part of the exported header that is the same for every table."""

from __future__ import annotations

BODY = r"""
#define LOOKUP_H_WORDS ((LOOKUP_STATE + 63) / 64)
#define LOOKUP_PHI_WORDS ((LOOKUP_PHI + 63) / 64)
#define LOOKUP_FRONT_WORDS (LOOKUP_H_WORDS * LOOKUP_H_BITS)
#define LOOKUP_WORDS (LOOKUP_FRONT_WORDS + LOOKUP_PHI_WORDS * LOOKUP_PHI_BITS)
#define LOOKUP_PLACE (8 * LOOKUP_WORDS)
/* A record is a key: the words of state and glimpse, column, row; in a tree its row of the table,
   in 4 bytes, comes with it. A front is what a row says of the next key: state, column, row. */
#define LOOKUP_RECORD (LOOKUP_PLACE + 2 + (LOOKUP_BEAM > 0 ? 4 : 0))
#define LOOKUP_FRONT (8 * LOOKUP_FRONT_WORDS + 2)
#define LOOKUP_WAYS (LOOKUP_BEAM > 0 ? LOOKUP_BEAM : 1)

#if defined(__GNUC__)
#define LOOKUP_SOON(address) __builtin_prefetch(address)
#else
#define LOOKUP_SOON(address) ((void)0)
#endif

typedef struct { uint64_t words[LOOKUP_WORDS]; int column, row; } lookup_key;

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

/* Little-endian wherever it runs; compilers make one load of it where they can. */
static uint64_t lookup_word(const unsigned char *bytes)
{
    return (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16
        | (uint64_t)bytes[3] << 24 | (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40
        | (uint64_t)bytes[6] << 48 | (uint64_t)bytes[7] << 56;
}

/* Sum of the differences of codes of one or two bits, plane by plane, the high one first. */
static int32_t lookup_apart(const uint64_t *a, const unsigned char *b, int words, int bits)
{
    int32_t total = 0;
    int at;
    for (at = 0; at < words; at++) {
        uint64_t x = a[at] ^ lookup_word(b + 8 * at);
        if (bits == 1) {
            total += lookup_ones(x);
        } else {
            uint64_t low = a[words + at];
            uint64_t y = low ^ lookup_word(b + 8 * (words + at));
            total += 2 * lookup_ones(x) + lookup_ones(y) - 2 * lookup_ones(x & y & (a[at] ^ low));
        }
    }
    return total;
}

/* No distance reaches 2^24. */
static int32_t lookup_distance(const lookup_key *key, const unsigned char *record)
{
    int column = key->column - record[LOOKUP_PLACE], row = key->row - record[LOOKUP_PLACE + 1];
    if (column < 0) column = -column;
    if (row < 0) row = -row;
    return LOOKUP_COST_H * lookup_apart(key->words, record, LOOKUP_H_WORDS, LOOKUP_H_BITS)
        + LOOKUP_COST_L * (column + row)
        + LOOKUP_COST_PHI * lookup_apart(key->words + LOOKUP_FRONT_WORDS,
            record + 8 * LOOKUP_FRONT_WORDS, LOOKUP_PHI_WORDS, LOOKUP_PHI_BITS);
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

/* Write what is seen around the place of a key into its last words. */
static void lookup_glimpse(const int32_t *sums, lookup_key *key)
{
    int patch, i, j, number = 0, plane;
    uint64_t *words = key->words + LOOKUP_FRONT_WORDS;
    for (i = 0; i < LOOKUP_PHI_WORDS * LOOKUP_PHI_BITS; i++)
        words[i] = 0;
    for (patch = 0; patch < LOOKUP_PATCHES; patch++) {
        const int cell = lookup_cell_sides[patch], half = cell * LOOKUP_CELLS / 2;
        const int32_t *limits = lookup_limits + patch * ((1 << LOOKUP_PHI_BITS) - 1);
        int across[LOOKUP_CELLS + 1], down[LOOKUP_CELLS + 1];
        for (i = 0; i <= LOOKUP_CELLS; i++) {
            int x = key->column - half + i * cell, y = key->row - half + i * cell;
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
                for (plane = 0; plane < LOOKUP_PHI_BITS; plane++)
                    words[plane * LOOKUP_PHI_WORDS + number / 64]
                        |= (uint64_t)(code >> (LOOKUP_PHI_BITS - 1 - plane) & 1) << number % 64;
            }
        }
    }
}

/* A row that was found is one number, distance above and row below: the smaller is nearer, and of
   two equally near the one of the lower row. */
static uint64_t lookup_found(int32_t distance, uint32_t row)
{
    return (uint64_t)distance << 32 | row;
}

static void lookup_sink(uint64_t *kept, int count, int at, uint64_t one)
{
    for (;;) {
        int below = 2 * at + 1;
        if (below >= count) break;
        if (below + 1 < count) below += kept[below + 1] > kept[below];
        if (kept[below] <= one) break;
        kept[at] = kept[below];
        at = below;
    }
    kept[at] = one;
}

/* Keep the nearest few: in any order while there is room, then as a heap, the farthest on top. */
static int lookup_keep(uint64_t *kept, int count, int most, uint64_t one)
{
    int at;
    if (count < most) {
        kept[count++] = one;
        for (at = count / 2 - 1; count == most && at >= 0; at--)
            lookup_sink(kept, count, at, kept[at]);
    } else if (one < kept[0]) {
        lookup_sink(kept, count, 0, one);
    }
    return count;
}

#if LOOKUP_BEAM > 0
/* Below and count are those of its line; own is where its record is. */
typedef struct { int32_t counts, distance, below, count, own; } lookup_way;

/* A node is a line for each of its centers, then the records of those that are not the center
   above. A line says in four numbers where the node below begins and how many centers it has, or
   where the rows of a leaf begin and -1 less their count; then where the record of the center is,
   and by how much nearer the center counts than it is. Places are bytes of lookup_records. */
enum { LOOKUP_BELOW, LOOKUP_COUNT = 4, LOOKUP_OWN = 8, LOOKUP_REACH = 12, LOOKUP_LINE = 16 };

static int32_t lookup_number(const unsigned char *bytes)
{
    return (int32_t)((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16
        | (uint32_t)bytes[3] << 24);
}

/* Keep the best ways down, best first; ties to what came first. */
static int lookup_open(lookup_way *kept, int count, lookup_way one)
{
    int at = count < LOOKUP_WAYS ? count : LOOKUP_WAYS - 1;
    if (count == LOOKUP_WAYS && one.counts >= kept[at].counts)
        return count;
    while (at > 0 && kept[at - 1].counts > one.counts) {
        kept[at] = kept[at - 1];
        at--;
    }
    kept[at] = one;
    return count < LOOKUP_WAYS ? count + 1 : count;
}

/* Give up ways that count as farther than so many hundredths of the first. */
static int lookup_near_ways(lookup_way *kept, int count)
{
    const int64_t limit = kept[0].counts > 0 ? (int64_t)kept[0].counts * LOOKUP_SLACK : 0;
    int i, left = 1;
    if (!LOOKUP_SLACK) return count;
    for (i = 1; i < count; i++)
        if (kept[i].counts <= 0 || (int64_t)kept[i].counts * 100 <= limit) kept[left++] = kept[i];
    return left;
}

/* Compare the key with the record at a place and keep it. */
static int32_t lookup_meet(const lookup_key *key, int32_t own, uint64_t *kept, int *found, int most)
{
    const unsigned char *record = lookup_records + own;
    const int32_t distance = lookup_distance(key, record);
    *found = lookup_keep(kept, *found, most, lookup_found(distance,
        (uint32_t)lookup_number(record + LOOKUP_PLACE + 2)));
    return distance;
}

static int lookup_nearest(const lookup_key *key, int part, uint64_t *kept, int most)
{
    lookup_way ways[LOOKUP_WAYS] = {{0, 0, 0, 0, 0}}, next[LOOKUP_WAYS] = {{0, 0, 0, 0, 0}};
    int count = 1, more, i, at, found = 0;
    ways[0].below = lookup_roots[2 * part];
    ways[0].count = lookup_roots[2 * part + 1];
    ways[0].own = -1;
    do {
        int total = 0;
        more = 0;
        for (i = 0; i < count; i++)
            if (ways[i].count < 0) total = lookup_open(next, total, ways[i]);
        for (i = 0; i < count; i++) {
            for (at = 0; at < ways[i].count; at++) {
                const unsigned char *line = lookup_records + ways[i].below + at * LOOKUP_LINE;
                lookup_way one;
                one.distance = ways[i].distance;
                one.below = lookup_number(line + LOOKUP_BELOW);
                one.count = lookup_number(line + LOOKUP_COUNT);
                one.own = lookup_number(line + LOOKUP_OWN);
                /* A center that is the center above, too, is known. */
                if (one.own != ways[i].own)
#if LOOKUP_PIVOTS
                    one.distance = lookup_meet(key, one.own, kept, &found, most);
#else
                    one.distance = lookup_distance(key, lookup_records + one.own);
#endif
                one.counts = one.distance - lookup_number(line + LOOKUP_REACH);
                total = lookup_open(next, total, one);
                more = 1;
            }
        }
        if (more) count = lookup_near_ways(next, total);
        for (i = 0; i < count && more; i++) {
            ways[i] = next[i];
            for (at = 0; at < 256; at += 64)
                LOOKUP_SOON(lookup_records + next[i].below + at);
        }
    } while (more);
    for (i = 0; i < count; i++)
        for (at = 0; at < -1 - ways[i].count; at++)
            lookup_meet(key, ways[i].below + at * LOOKUP_RECORD, kept, &found, most);
    return found;
}
#else
static int lookup_nearest(const lookup_key *key, int part, uint64_t *kept, int most)
{
    int found = 0;
    int32_t row;
    for (row = lookup_parts[part]; row < lookup_parts[part + 1]; row++)
        found = lookup_keep(kept, found, most,
            lookup_found(lookup_distance(key, lookup_records + (int64_t)row * LOOKUP_RECORD),
                (uint32_t)row));
    return found;
}
#endif

static int lookup_answer(uint64_t found)
{
    const unsigned char *answer = lookup_answers + (found & 0xffffffff) * LOOKUP_ANSWER_BYTES;
    return answer[0] + (LOOKUP_ANSWER_BYTES > 1 ? answer[LOOKUP_ANSWER_BYTES - 1] << 8 : 0);
}

#if LOOKUP_VOTE == 2
/* The nearest row of each class votes, by how much nearer it is than the farthest row. */
static void lookup_add_votes(const uint64_t *kept, int found, int64_t *votes)
{
    int32_t gained[LOOKUP_CLASSES] = {0}, far = 0;
    int i;
    for (i = 0; i < found; i++)
        if ((int32_t)(kept[i] >> 32) > far) far = (int32_t)(kept[i] >> 32);
    for (i = 0; i < found; i++) {
        const int named = lookup_answer(kept[i]);
        const int32_t gain = far + 1 - (int32_t)(kept[i] >> 32);
        if (gain > gained[named]) gained[named] = gain;
    }
    for (i = 0; i < LOOKUP_CLASSES; i++)
        votes[i] += gained[i];
}
#else
/* Rows vote by rank. */
static void lookup_add_votes(uint64_t *kept, int found, int64_t *votes)
{
    int i, at;
    for (i = 1; i < found; i++) {
        const uint64_t one = kept[i];
        for (at = i; at > 0 && kept[at - 1] > one; at--)
            kept[at] = kept[at - 1];
        kept[at] = one;
    }
    for (i = 0; i < found; i++)
        votes[lookup_answer(kept[i])] += (1 << 20) / (2 + i);
}
#endif

/* Return the class of one image, from 0. */
static int lookup_predict(const uint8_t *image)
{
    int64_t votes[LOOKUP_CLASSES] = {0};
    uint64_t kept[LOOKUP_K + 1] = {0};
    int32_t sums[(LOOKUP_SIDE + 1) * (LOOKUP_SIDE + 1)];
    lookup_key key = {{0}, LOOKUP_SIDE / 2, LOOKUP_SIDE / 2};
    int step, i, best = 0;
    lookup_add_up(image, sums);
    for (step = 0; step < LOOKUP_STEPS; step++) {
        const int vote = LOOKUP_VOTE > 0 || step == LOOKUP_STEPS - 1;
        const unsigned char *front;
        uint64_t nearest;
        int found;
        lookup_glimpse(sums, &key);
        found = lookup_nearest(&key, LOOKUP_PER_STEP ? step : 0, kept, vote ? LOOKUP_K : 1);
        nearest = kept[0];
        for (i = 1; i < found; i++)
            if (kept[i] < nearest) nearest = kept[i];
        front = lookup_fronts + (nearest & 0xffffffff) * LOOKUP_FRONT;
        for (i = 0; i < LOOKUP_FRONT_WORDS; i++)
            key.words[i] = lookup_word(front + 8 * i);
        key.column = front[8 * LOOKUP_FRONT_WORDS];
        key.row = front[8 * LOOKUP_FRONT_WORDS + 1];
        if (vote) lookup_add_votes(kept, found, votes);
    }
    for (i = 1; i < LOOKUP_CLASSES; i++)
        if (votes[i] > votes[best]) best = i;
    return best;
}
"""
