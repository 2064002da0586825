// Where in a litmus test an error came from, read from its stack: `file:line:column`, or null.

export function placeIn(path: string, shownPath: string, error: Error): string | null {
  const text = `${error.message}\n${error.stack ?? ''}`;
  for (const line of text.split('\n')) {
    const at = line.indexOf(path);
    const [, place] = at < 0 ? [] : (/^:(\d+:\d+)/.exec(line.slice(at + path.length)) ?? []);
    if (place !== undefined) return `${shownPath}:${place}`;
  }
  return null;
}
