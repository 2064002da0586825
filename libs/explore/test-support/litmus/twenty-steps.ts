// Two actors of twenty steps that have nothing to do with each other: for counting schedules.
import { holds, litmus } from '#explore/litmus';
import { step, stepKind } from '#model/shared-memory/step';

const twenty = (): void => {
  for (let i = 0; i < 20; i++) step(stepKind.write, i);
};

export default litmus({
  title: 'Twenty steps beside twenty steps',
  source: 'the target of exhausting two operations of twenty steps',
  start: () => ({}),
  actors: { one: { kind: 'software', does: twenty }, other: { kind: 'software', does: twenty } },
  never: ['noLockHeldAtSafepoint'],
  variants: { only: { what: 'nothing happens', expect: holds } },
});
