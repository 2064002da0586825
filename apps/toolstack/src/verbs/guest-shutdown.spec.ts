import { expect, it } from 'vitest';
import { domInfoFlag } from '#model/hypercall/calls';
import { askToShutDown } from './guest-shutdown.ts';
import type { Toolstack } from './verb.ts';

const REASON = 1;

/** A toolstack whose only guest answers the command as told; `stops` is whether its domain then shuts down. */
function toolstack(command: () => Promise<null>, stops: boolean): Toolstack {
  let asked = false;
  const parts = {
    placement: {
      placed: () => ({ domid: 1 }),
      command: () => {
        asked = true;
        return command();
      },
    },
    dom0: { call: async () => ({ rc: 0, info: { flags: asked && stops ? domInfoFlag.shutdown : 0 } }) },
  };
  return parts as unknown as Toolstack; // the two services that the question needs
}

it('a guest that stops has shut down, even where the answer of its agent went down with it', async () => {
  const lost = () => Promise.reject(new Error('the guest process of domain 1 ended'));
  expect(await askToShutDown(toolstack(lost, true), 1, REASON)).toBe(true);
  expect(
    await askToShutDown(
      toolstack(() => new Promise(() => {}), true),
      1,
      REASON,
    ),
  ).toBe(true);
});

it('a guest that cannot be asked and goes on has not shut down', async () => {
  const refused = () => Promise.reject(new Error('nobody took it'));
  expect(await askToShutDown(toolstack(refused, false), 1, REASON)).toBe(false);
});
