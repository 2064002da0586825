// The toolstack, or Xen under it, refused: who said so, in whose words, and with which error. Told wherever a step was refused as
// the scenario expects.
import { type ErrnoName, errno } from '#model/hypercall/errno';
import type { Explanation, ReportTable } from '#report/verdict';
import { notableLines } from '../runner/telling.ts';
import type { TwinState, VerbRecord } from '../runner/twin-state.ts';

/** What Xen's refusals of `assign_device` mean, by errno. */
const XEN_SAYS: Readonly<Record<string, string>> = {
  EXDEV:
    'Xen does not give a device to a domain that has populate-on-demand entries, because a device cannot populate one. The half-built ' +
    'domain was destroyed again.',
  EBUSY:
    'a page of the device’s reserved region has something else in the guest (RAM, mostly), and the device’s policy is strict. What was mapped ' +
    'for it before that page was unmapped again; the device went back to where it was.',
  EPERM:
    'firmware reserved the device’s region for other devices too, and the policy is strict. Two guests with one of them each would share the region.',
};
const LINES_MAX = 4;

export function explainRefusal(state: TwinState): Explanation | null {
  const refused = state.verbs.filter(({ exitCode }) => exitCode !== 0);
  const [first] = refused;
  if (!first) return null;
  const byXen = Object.keys(XEN_SAYS).find(
    (name) => state.observer.errors('assign_device', -errno[name as ErrnoName]) > 0,
  ); // its keys
  const messages = new Map<string, number>();
  for (const { verb, stderr } of refused) {
    const text = `xl ${verb}: ${reasonOf(stderr)}`;
    messages.set(text, (messages.get(text) ?? 0) + 1);
  }
  return {
    title: refuser(state, byXen),
    paragraphs: [why(state, byXen, refused)],
    tables: [messageTable(messages), ...linesTable(state)],
  };
}

const refuser = ({ verbs }: TwinState, byXen: string | undefined): string =>
  byXen !== undefined || verbs.some(({ verb, exitCode }) => verb === 'device-model' && exitCode !== 0)
    ? 'Who refused: Xen itself'
    : 'Who refused: the toolstack';

function why({ observer }: TwinState, byXen: string | undefined, refused: readonly VerbRecord[]): string {
  if (byXen !== undefined) {
    const times = observer.errors('assign_device', -errno[byXen as ErrnoName]); // a key of the table
    return `The toolstack asked for the device, and the hypercall \`assign_device\` answered \`-${byXen}\` ${times} times: ${XEN_SAYS[byXen]}`;
  }
  if (refused.some(({ verb }) => verb === 'device-model')) {
    return (
      'The device model asked for a mapping over the device’s reserved memory, and the hypercall answered `-EPERM`: an identity entry changes ' +
      'only through the assignment that made it.'
    );
  }
  if (refused.some(({ stderr }) => stderr.includes('RDM conflict'))) {
    return (
      'libxl laid out the guest’s memory, asked Xen for the reserved regions, and found one under the RAM that it could not move away. The domain ' +
      'had no memory yet, and was destroyed again.'
    );
  }
  return 'libxl compared the guest’s configuration before it built anything. Nothing was created, so nothing had to be undone.';
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
  const lines = [...new Set(notableLines(state))].slice(0, LINES_MAX);
  return lines.length === 0
    ? []
    : [{ caption: 'What Xen said', head: ['xl dmesg'], rows: lines.map((line) => [line]) }];
}
