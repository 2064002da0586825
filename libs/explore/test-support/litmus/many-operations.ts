// One operation of many is the culprit: what a counterexample can do without.
import { litmus, violates } from '#explore/litmus';
import { step, stepKind } from '#model/shared-memory/step';

const PAGE = 515;

export default litmus({
  title: 'One of many operations is to blame',
  source: 'a test of the shrinking',
  start: (s) => ({ guest: s.guest({ ram: [{ gfn: 512, pages: 16 }] }) }),
  actors: {
    guest: {
      kind: 'software',
      does: [
        (w, { guest }) => w.call(guest, { op: 'touch', frames: { start: 512, count: 2 } }),
        (w, { guest }) => w.call(guest, { op: 'store', frames: { start: PAGE, count: 1 }, tag: 5 }),
        (w, { guest }) => w.call(guest, { op: 'touch', frames: { start: 513, count: 2 } }),
      ],
    },
    looker: {
      kind: 'software',
      does(w, { guest }) {
        step(stepKind.read, PAGE);
        const { tags = [] } = w.call(guest, { op: 'load', frames: { start: PAGE, count: 1 } });
        w.require(tags[0] === 0, 'pageStaysZero', `the page holds ${tags[0]}`);
      },
    },
  },
  never: ['pageStaysZero'],
  invariants: { pageStaysZero: 'nobody writes to the page' },
  variants: { only: { what: 'the second operation writes', expect: violates('pageStaysZero') } },
});
