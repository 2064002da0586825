// Actors that ask again and again, for the specs of no progress.
import { holds, violates } from '../../src/litmus.ts';
import { stepProgram } from '../../src/step-program.ts';

export default stepProgram({
  title: 'Asking again and again',
  source: 'a test of liveness',
  words: { flag: 0 },
  actors: {
    asker: {
      kind: 'software',
      does(p) {
        while (p.read('flag') === 0);
      },
    },
    other: { kind: 'software', does: (p) => p.write('flag', 1) },
  },
  never: ['callsMakeProgress'],
  variants: {
    'somebody answers': { what: 'others are let in when a state repeats', expect: holds },
    'nobody answers': {
      what: 'the state repeats, and nobody else can change it',
      actors: { other: { kind: 'software', does: (p) => p.write('flag', 0) } },
      expect: violates('callsMakeProgress'),
    },
    'it gives up': {
      what: 'a loop that counts its tries is none without progress',
      actors: {
        asker: {
          kind: 'software',
          does(p) {
            for (let tries = 0; tries < 20 && p.read('flag') === 0; tries++);
          },
        },
        other: { kind: 'software', does: (p) => p.write('flag', 0) },
      },
      expect: holds,
    },
  },
});
