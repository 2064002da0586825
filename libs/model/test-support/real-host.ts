// A real host in one thread for specs, with a recording platform and a place to answer calls in the hypervisor's stead.
// Nothing here stands in for anything.
import { InProcessHost } from '#model/boot/in-process-host';
import type { HostConfig } from '#model/host-config';
import type { Answer, AnswerOf, Call } from '#model/hypercall/calls';
import { type Recorded, recorder, smallConfig } from './p2m-fixture.ts';

export class RealHost extends InProcessHost {
  readonly log: Recorded;
  /** Looked at before every call of every port; may answer in its place. */
  intercept: (domid: number, call: Call) => Answer | null = () => null;

  constructor(overrides: Partial<HostConfig>, dom0Mb: number) {
    const log = recorder();
    super(smallConfig(overrides), { memoryPages: dom0Mb * 256, vcpus: 2 }, log);
    this.log = log;
  }

  protected override run<C extends Call>(domid: number, vcpu: number, call: C): AnswerOf<C['op']> {
    return (this.intercept(domid, call) as AnswerOf<C['op']> | null) ?? super.run(domid, vcpu, call); // answers in kind
  }
}
