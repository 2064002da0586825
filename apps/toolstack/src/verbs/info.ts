// xl info: what the hypervisor says of the host; with --json the raw figures.
import { formatXlInfo } from '#formats/xl-output';
import { printed, refused, type Verb } from './verb.ts';

export const info: Verb = async (xl, args) => {
  const { info: phys } = await xl.dom0.call({ op: 'physinfo' });
  if (!phys) return refused('libxl_physinfo failed.');
  return printed(
    args.includes('--json') ? `${JSON.stringify(phys)}\n` : formatXlInfo(phys, { host: xl.config.host.name }),
  );
};
