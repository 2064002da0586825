// Actors that do not end as they should, one a variant.
import { holds, litmus, violates } from '#explore/litmus';
import { step, stepKind } from '#model/shared-memory/step';

export default litmus({
  title: 'Actors that do not end',
  source: 'what an author may get wrong',
  start: (s) => ({ guest: s.guest(), other: s.guest() }),
  actors: {
    first: {
      kind: 'software',
      does(w, { guest, other }) {
        w.domain(guest).locks.pod.lock();
        w.domain(other).locks.pod.lock();
        w.domain(other).locks.pod.unlock();
        w.domain(guest).locks.pod.unlock();
      },
    },
    second: { kind: 'software', does: () => step(stepKind.read, 1) },
  },
  never: ['noWaitForCycle'],
  variants: {
    'locks in two orders': {
      what: 'each holds what the other wants',
      actors: {
        second: {
          kind: 'software',
          does(w, { guest, other }) {
            w.domain(other).locks.pod.lock();
            w.domain(guest).locks.pod.lock();
            w.domain(guest).locks.pod.unlock();
            w.domain(other).locks.pod.unlock();
          },
        },
      },
      expect: violates('noWaitForCycle'),
    },
    'a lock is kept': {
      what: 'one ends with the lock held',
      actors: { second: { kind: 'software', does: (w, { other }) => w.domain(other).locks.pod.lock() } },
      expect: violates('noWaitForCycle'),
    },
    'the same steps for ever': {
      what: 'a lookup that never gets anywhere',
      actors: {
        second: {
          kind: 'software',
          does() {
            for (;;) {
              step(stepKind.p2mRead, 5);
              step(stepKind.ptAlloc, 1);
            }
          },
        },
      },
      expect: violates('callsMakeProgress'),
    },
    'wrong lock order': {
      what: 'page_alloc before p2m',
      actors: {
        second: {
          kind: 'software',
          does(w, { guest }) {
            w.domain(guest).locks.pageAlloc.lock();
            w.domain(guest).locks.p2m.writeLock();
          },
        },
      },
      expect: violates('hostDoesNotPanic'),
    },
    throws: {
      what: 'an exception of its own',
      actors: {
        second: {
          kind: 'software',
          does() {
            step(stepKind.read, 1);
            throw new Error('not what I wanted');
          },
        },
      },
      expect: holds,
    },
    'runs without a step': {
      what: 'a loop that nobody can interrupt',
      actors: {
        second: {
          kind: 'software',
          does() {
            step(stepKind.read, 1);
            for (;;);
          },
        },
      },
      expect: holds,
    },
    'tosses a coin': {
      what: 'not the same twice',
      actors: {
        second: {
          kind: 'software',
          does() {
            step(stepKind.read, Math.floor(Math.random() * 1e9));
          },
        },
      },
      expect: holds,
    },
    undeclared: {
      what: 'names an invariant of nobody',
      actors: { second: { kind: 'software', does: (w) => w.require(false, 'allIsWell', 'it is not') } },
      expect: holds,
    },
  },
});
