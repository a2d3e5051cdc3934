// Schedules as numbers: one set of resting bricks per step, bit k for brick k. Pure functions.

/** The first step that a range up to `until` does not hold; as the service rounds. */
const rangeEnd = (until, steps) => Math.ceil(until * steps - 1e-3);

/** What "none" or explicit ranges mean at each step; null for what only the service can say. */
export function restingOf(skip, steps) {
  const resting = new Array(steps).fill(0);
  if (skip === 'none' || skip === undefined)
    return resting;
  if (!skip?.schedule)
    return null;
  let step = 0;
  for (const { until, skip: bricks } of skip.schedule) {
    const set = bricks.reduce((bits, brick) => bits | (1 << brick), 0);
    for (const end = Math.min(rangeEnd(until, steps), steps); step < end; step++)
      resting[step] = set;
  }
  return resting;
}

export const bricksIn = (set) => [...Array(8).keys()].filter((brick) => set & (1 << brick));

/** The same as a request says it. */
export function skipOf(resting) {
  if (resting.every((set) => set === 0))
    return 'none';
  const schedule = [];
  resting.forEach((set, step) => {
    if (resting[step + 1] !== set)
      schedule.push({ until: (step + 1) / resting.length, skip: bricksIn(set) });
  });
  return { schedule };
}

/** Stretched or squeezed to another number of steps. */
export const resample = (resting, steps) =>
  Array.from({ length: steps }, (_, step) =>
    resting[Math.min(resting.length - 1, Math.floor(((step + 0.5) * resting.length) / steps))]);

/** The set with one brick resting or not; null if none would be left to run. */
export function withBrick(set, brick, rests, brickCount) {
  const changed = rests ? set | (1 << brick) : set & ~(1 << brick);
  return changed === (1 << brickCount) - 1 ? null : changed;
}
