import { describe, expect, it } from 'vitest';
import { runMutants } from '../test-support/mutant-run.ts';
import { mutantTargets } from '../test-support/mutant-targets.ts';

const COUNT = Number(process.env.HOSTLOOM_MUTANTS ?? 2000);

describe(`${COUNT} damaged files`, () => {
  it('are read or refused with the place and the field, never anything else', () => {
    const { tallies, failures } = runMutants({ targets: mutantTargets, count: COUNT });
    expect(failures).toEqual([]);
    for (const tally of tallies) {
      // Neither all refused at the door nor all believed: the damage reaches the inside.
      expect(tally).toSatisfy(({ read, refused }: typeof tally) => read > 0 && refused > 0);
    }
  });
});
