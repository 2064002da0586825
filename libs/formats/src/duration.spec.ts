import { expect, it } from 'vitest';
import { parseDuration } from './duration.ts';

it('reads every unit into whole microseconds', () => {
  expect(['200us', '20ms', '1.5s', '10m', '1h'].map(parseDuration)).toEqual([200, 20_000, 1_500_000, 6e8, 3.6e9]);
});

it('refuses a number without unit, a negative one, an unknown unit and more than a day', () => {
  expect(['10', '-1s', '5d', '', '1 s', '25h', '1e3s'].map(parseDuration)).toEqual(Array(7).fill(null));
});
