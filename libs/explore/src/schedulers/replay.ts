// Goes where the choices lead that were written down, and where nothing is written stays with whoever runs. The scheduler of a
// replay, and of the exhaustive search, which writes the choices.
import type { Control } from '../control.ts';
import { isEnabled, lowest, type Scheduler } from './scheduler.ts';

export class ReplayScheduler implements Scheduler {
  private readonly choices: Uint8Array<SharedArrayBuffer>;

  constructor(control: Control) {
    this.choices = control.choices;
  }

  learn(): void {}
  begin(): void {}

  pick(me: number, enabled: number, _costs: boolean, index: number): number {
    const wanted = (this.choices[index] as number) - 1;
    if (wanted >= 0) return isEnabled(enabled, wanted) ? wanted : -1;
    return me >= 0 && isEnabled(enabled, me) ? me : lowest(enabled);
  }
}
