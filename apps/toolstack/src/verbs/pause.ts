// xl pause DOMAIN, xl unpause DOMAIN. Silent; what libxl has against it does not show in xl's status.
import { readArguments } from './arguments.ts';
import { findDomid, printed, type Verb } from './verb.ts';

export const pause: Verb = async (xl, args) => {
  const [name = ''] = readArguments('pause', args, 1).words;
  await xl.dom0.call({ op: 'pausedomain', domid: await findDomid(xl, name) });
  return printed('');
};

export const unpause: Verb = async (xl, args) => {
  const [name = ''] = readArguments('unpause', args, 1).words;
  await xl.dom0.call({ op: 'unpausedomain', domid: await findDomid(xl, name) });
  return printed('');
};
