// How the threads of an exploration are started: from the sources as from dist/, whatever started the process.

/** A thread of the sources resolves this package's names to sources. */
export const execArgvFor = (entry: URL): string[] => (entry.pathname.endsWith('.ts') ? ['--conditions=source'] : []);
