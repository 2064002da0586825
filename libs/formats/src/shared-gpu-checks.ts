// What must hold in a twin that shares a GPU: the device is one that can be shared, somebody mediates before a guest is given a part
// of it, each mediator has a vCPU of dom0 to itself, and a step's guest has the driver. Owns those rules and their messages.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { Step, Twin } from './scenario.ts';
import type { TwinPlaces } from './scenario-checks.ts';
import type { Path, YamlSource } from './yaml-source.ts';

export function checkSharedGpus(twin: Twin, places: TwinPlaces, source: YamlSource): void {
  const mediators = twin.dom0.workload.filter(({ run }) => run === 'mediator').length;
  if (mediators > 0 && mediators >= twin.dom0.vcpus) {
    const message = `${mediators} mediators need ${mediators + 1} vCPUs of dom0: each sleeps on one of its own`;
    source.problem(places.dom0Workload, message, `write \`vcpus: ${mediators + 1}\` under \`dom0\``);
  }
  for (const guest of twin.guests) {
    for (const [i, workload] of guest.workload.entries()) {
      const path = [...places.guestWorkload(guest.name), i];
      if (workload.run === 'mediator') {
        source.problem(path, 'a mediator runs in dom0', 'write it under the `workload` of `dom0`');
      } else if (workload.run === 'vgpu') checkShared(twin, workload.device, [...path, 'device'], source);
    }
  }
  for (const [i, workload] of twin.dom0.workload.entries()) {
    if (workload.run !== 'mediator') continue;
    checkShared(twin, workload.device, [...places.dom0Workload, i, 'device'], source);
  }
  for (const [i, step] of twin.timeline.entries()) checkStep(twin, step, [...places.timeline, i], source);
}

const isFunctionOf = (twin: Twin, device: Sbdf): Sbdf | null =>
  twin.host.devices.find(({ sbdf }) => sbdf === device)?.physicalFunction ?? null;

function checkShared(twin: Twin, device: Sbdf, path: Path, source: YamlSource): void {
  const shared = new Set(twin.host.sharedGpus.map((gpu) => gpu.device));
  if (shared.has(device) || shared.has(isFunctionOf(twin, device) ?? device)) return;
  const there = [...shared].map(formatSbdf).join(', ') || 'none';
  source.problem(
    path,
    `${formatSbdf(device)} is no GPU that can be shared`,
    `sharedGpus of ${twin.host.file}: ${there}`,
  );
}

function checkStep(twin: Twin, step: Step, path: Path, source: YamlSource): void {
  if (step.do === 'bus-frames' && twin.host.busSpaceMb === 0) {
    const remedy = 'take a host with `busSpaceMb`';
    source.problem(path, `${twin.host.name} has no bus addresses that dom0 may manage`, remedy);
  }
  if (step.do !== 'vgpu') return;
  if (step.act === 'attach' || step.act === 'detach') {
    const mediated = twin.dom0.workload.some(
      ({ run, ...w }) => run === 'mediator' && 'device' in w && w.device === step.device,
    );
    if (mediated) return;
    const message = `nobody mediates ${formatSbdf(step.device)}: no guest can be given a part of it`;
    source.problem([...path, 'device'], message, 'add `{ run: mediator, device: … }` to the workload of `dom0`');
    return;
  }
  const guest = twin.guests.find(({ name }) => name === step.guest);
  if (!guest || guest.workload.some((w) => w.run === 'vgpu' && w.device === step.device)) return;
  const message = `${step.guest} has no driver for ${formatSbdf(step.device)}`;
  source.problem([...path, 'guest'], message, 'add `{ run: vgpu, device: … }` to its `workload`');
}
