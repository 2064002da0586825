import { expect, it } from 'vitest';
import { closestName, EXIT_USAGE, OperatorError } from './operator-error.ts';

it('shows every problem with its place and what to do, and leads to exit code 64', () => {
  const error = new OperatorError([
    { file: 'a.yaml', line: 3, column: 5, message: 'wrong', remedy: 'correct it' },
    { file: 'b.cfg', message: 'no such file', remedy: 'name one' },
  ]);
  expect(error.message).toBe('a.yaml:3:5: wrong\n    → correct it\nb.cfg: no such file\n    → name one');
  expect(error).toMatchObject({ exitCode: EXIT_USAGE, file: 'a.yaml', line: 3, remedy: 'correct it' });
});

it('guesses a word with a swap or a missing letter, and does not guess what is unlike', () => {
  const words = ['timeline', 'policies', 'guests', 'at'];
  expect(['tiemline', 'policys', 'guest', 'xylophone', 'zz'].map((w) => closestName(w, words))).toEqual([
    'timeline',
    'policies',
    'guests',
    undefined,
    undefined,
  ]);
});
