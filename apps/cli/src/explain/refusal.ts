// The toolstack, or Xen under it, refused: who said so, in whose words, and with which error. Told wherever a step was refused as
// the scenario expects.
import type { Explanation, ReportTable } from '#report/verdict';
import { notableLines } from '../runner/telling.ts';
import type { TwinState } from '../runner/twin-state.ts';

const EXDEV = 18;
const LINES_MAX = 4;

export function explainRefusal(state: TwinState): Explanation | null {
  const refused = state.verbs.filter(({ exitCode }) => exitCode !== 0);
  const [first] = refused;
  if (!first) return null;
  const byXen = state.observer.errors('assign_device', -EXDEV);
  const messages = new Map<string, number>();
  for (const { verb, stderr } of refused) {
    const text = `xl ${verb}: ${reasonOf(stderr)}`;
    messages.set(text, (messages.get(text) ?? 0) + 1);
  }
  return {
    title: byXen > 0 ? 'Who refused: Xen itself' : 'Who refused: the toolstack',
    paragraphs: [
      byXen > 0
        ? `The toolstack asked for the device, and the hypercall \`assign_device\` answered \`-EXDEV\` ${byXen} times: Xen does not give a device to a ` +
          'domain that has populate-on-demand entries, because a device cannot populate one. The half-built domain was destroyed again.'
        : 'libxl compared the guest’s configuration before it built anything. Nothing was created, so nothing had to be undone.',
    ],
    tables: [messageTable(messages), ...linesTable(state)],
  };
}

/** The first error said is the reason; what follows is each caller's own line about it. */
function reasonOf(stderr: string): string {
  const lines = stderr.trim().split('\n');
  return lines.find((line) => line.includes(': error: ')) ?? lines.at(-1) ?? '';
}

function messageTable(messages: ReadonlyMap<string, number>): ReportTable {
  return {
    caption: 'What was said',
    head: ['message', 'times'],
    rows: [...messages].map(([text, times]) => [text, `${times}`]),
  };
}

function linesTable(state: TwinState): ReportTable[] {
  const lines = notableLines(state).slice(0, LINES_MAX);
  return lines.length === 0
    ? []
    : [{ caption: 'What Xen said', head: ['xl dmesg'], rows: lines.map((line) => [line]) }];
}
