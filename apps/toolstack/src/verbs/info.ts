// xl info [-n] [KEY]: what the hypervisor says of the host; with --json the raw figures.
import { formatNumaInfo, formatXlInfo, infoValue } from '#formats/xl-output';
import { readArguments } from './arguments.ts';
import { printed, refused, type Verb } from './verb.ts';

export const info: Verb = async (xl, args) => {
  const { words, has } = readArguments('info', args, 0, { n: 'numa', j: 'json' });
  const { info: phys } = await xl.dom0.call({ op: 'physinfo' });
  if (!phys) return refused('libxl_physinfo failed.');
  if (has('j')) return printed(`${JSON.stringify(phys)}\n`);
  const text = formatXlInfo(phys, { host: xl.config.host.name });
  if (has('n')) return printed(text + formatNumaInfo(phys));
  return printed(words[0] === undefined ? text : infoValue(text, words[0]));
};
