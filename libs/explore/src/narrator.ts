// placeholder written below
import type { Host, HostShared } from '#model/host';
import type { Control } from './control.ts';
export class Narrator { constructor(_h: Host, _b: HostShared, _c: Control) {} tell(): void {} }
