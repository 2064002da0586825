// Every verb of the toolstack, by the name under which it is asked for.
import { claims } from './claims.ts';
import { create } from './create.ts';
import { destroy } from './destroy.ts';
import { deviceModel } from './device-model.ts';
import { dmesg } from './dmesg.ts';
import { domid, domname } from './domain-names.ts';
import { guestCommand } from './guest-command.ts';
import { help } from './help.ts';
import { info } from './info.ts';
import { list } from './list.ts';
import { memMax } from './mem-max.ts';
import { memSet } from './mem-set.ts';
import { pause, unpause } from './pause.ts';
import { pciAssignableAdd } from './pci-assignable-add.ts';
import { pciAssignableList } from './pci-assignable-list.ts';
import { pciAssignableRemove } from './pci-assignable-remove.ts';
import { pciAttach } from './pci-attach.ts';
import { pciDetach } from './pci-detach.ts';
import { pciList } from './pci-list.ts';
import { reboot } from './reboot.ts';
import { setTarget } from './set-target.ts';
import { shutdown } from './shutdown.ts';
import { squeezeBalance } from './squeeze-balance.ts';
import { squeezeSwap } from './squeeze-swap.ts';
import { uptime } from './uptime.ts';
import type { Verb } from './verb.ts';
import { where } from './where.ts';

export const verbs: ReadonlyMap<string, Verb> = new Map([
  ['claims', claims],
  ['create', create],
  ['destroy', destroy],
  ['dmesg', dmesg],
  ['domid', domid],
  ['domname', domname],
  ['help', help],
  ['info', info],
  ['list', list],
  ['mem-max', memMax],
  ['mem-set', memSet],
  ['pause', pause],
  ['pci-assignable-add', pciAssignableAdd],
  ['pci-assignable-list', pciAssignableList],
  ['pci-assignable-remove', pciAssignableRemove],
  ['pci-attach', pciAttach],
  ['pci-detach', pciDetach],
  ['pci-list', pciList],
  ['reboot', reboot],
  ['shutdown', shutdown],
  ['unpause', unpause],
  ['uptime', uptime],
  // Not xl's: the squeezed service's requests, and what the launcher asks about guests.
  ['squeeze-balance', squeezeBalance],
  ['squeeze-swap', squeezeSwap],
  ['device-model', deviceModel],
  ['set-target', setTarget],
  ['guest-command', guestCommand],
  ['where', where],
]);
