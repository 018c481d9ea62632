/* Chance, from a seed. SplitMix64 (Steele, Lea, Flood 2014). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "base/uuid.h"

struct dice {
    uint64_t state;
};

static inline uint64_t dice_roll(struct dice *dice)
{
    uint64_t z = dice->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 … below - 1 */
static inline size_t dice_below(struct dice *dice, size_t below)
{
    must(below > 0);
    return (size_t)(dice_roll(dice) % below);
}

static inline int64_t dice_between(struct dice *dice, int64_t low, int64_t high)
{
    must(low <= high);
    return low + (int64_t)dice_below(dice, (size_t)(high - low) + 1);
}

static inline bool dice_chance(struct dice *dice, unsigned per_mille)
{
    return dice_below(dice, 1000) < per_mille;
}

static inline struct uuid dice_uuid(struct dice *dice)
{
    uint64_t words[2] = { dice_roll(dice) | 1, dice_roll(dice) };
    struct uuid uuid;

    memcpy(uuid.bytes, words, sizeof uuid.bytes);
    return uuid;
}
