import { describe, expect, it } from 'vitest';
import { TerminalOutput } from './terminal.ts';

function output(json: boolean, isTTY: boolean) {
  const out: string[] = [];
  const err: string[] = [];
  const stdout = { write: (text: string) => out.push(text) > 0 };
  const stderr = { write: (text: string) => err.push(text) > 0, isTTY, columns: 20 };
  // Only these members are used of the streams.
  const terminal = new TerminalOutput({ json, stdout: stdout as never, stderr: stderr as never });
  return { terminal, out, err };
}

describe('what a command says', () => {
  it('with --json standard output carries one object and nothing else', () => {
    const { terminal, out, err } = output(true, false);
    terminal.progress('working');
    terminal.line('verdict: pass');
    terminal.json({ verdict: 'pass' });
    expect(JSON.parse(out.join(''))).toEqual({ verdict: 'pass' });
    expect(err).toEqual(['working\n']);
  });

  it('on a terminal progress is one line that is rewritten, cut to the width, and erased before a result', () => {
    const { terminal, out, err } = output(false, true);
    terminal.progress('a very long line of progress');
    terminal.line('done');
    expect(err[0]).toBe('\r\u001b[2Ka very long line o…');
    expect(err[1]).toBe('\r\u001b[2K');
    expect(out).toEqual(['done\n']);
  });

  it('elsewhere progress is plain lines, and the same one is not repeated', () => {
    const { terminal, err } = output(false, false);
    terminal.progress('one');
    terminal.progress('one');
    terminal.progress('two');
    expect(err).toEqual(['one\n', 'two\n']);
  });
});
