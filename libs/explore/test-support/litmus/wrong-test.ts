// Everything an author may get wrong before anything runs.
export default {
  title: 'A test with mistakes',
  start: () => ({}),
  actors: { nobody: { kind: 'firmware' } },
  never: ['neighboursStayMaped'],
  variants: {
    one: { what: 'no verdict', policies: { shater: 'naive' } },
    two: {
      what: 'replaces a stranger',
      actors: { stranger: { kind: 'software', does: () => {} } },
      expect: { verdict: 'holds' },
    },
  },
};
