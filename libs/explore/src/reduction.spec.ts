import { describe, expect, it } from 'vitest';
import { stepKind } from '#model/shared-memory/step';
import { RESUMED } from './control.ts';
import { dependent } from './reduction.ts';

describe('dependence', () => {
  it('taking a lock concerns nobody but those who want the same lock', () => {
    expect(dependent(stepKind.lock, 3, stepKind.lock, 4)).toBe(false);
    expect(dependent(stepKind.lock, 3, stepKind.ptWrite, 3)).toBe(false);
    expect(dependent(stepKind.lock, 3, stepKind.lock, 3)).toBe(true);
    expect(dependent(stepKind.lock, 3, stepKind.unlock, 3)).toBe(true);
    expect(dependent(stepKind.tryLock, 3, stepKind.unlock, 3)).toBe(true);
    expect(dependent(RESUMED, 3, stepKind.unlock, 3)).toBe(true);
  });

  it('what has waited for something else than a lock depends on everything, and so does what follows an unlock', () => {
    expect(dependent(RESUMED, -1, stepKind.dma, 5)).toBe(true);
    expect(dependent(stepKind.unlock, 3, stepKind.dma, 5)).toBe(true);
    expect(dependent(stepKind.unlock, 3, stepKind.unlock, 4)).toBe(true);
    expect(dependent(stepKind.ioWrite, 1, stepKind.hwWalk, 2)).toBe(true);
  });
});
