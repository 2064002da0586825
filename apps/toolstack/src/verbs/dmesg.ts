// xl dmesg: the hypervisor's console ring.
import { readArguments } from './arguments.ts';
import { printed, type Verb } from './verb.ts';

export const dmesg: Verb = async ({ dom0 }, args) => {
  readArguments('dmesg', args, 0);
  let text = '';
  let from = 0;
  for (;;) {
    const { text: more = '', next = from } = await dom0.call({ op: 'readconsole', from });
    if (more === '') return printed(text);
    text += more;
    from = next;
  }
};
