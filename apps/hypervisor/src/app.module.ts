// What the hypervisor process is made of.
import { type DynamicModule, Module } from '@nestjs/common';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import { ConsoleService } from './console.service.ts';
import { ControlService } from './control.service.ts';
import { DomainWatchService } from './domain-watch.service.ts';
import { HostService } from './host.service.ts';
import { HypervisorService } from './hypervisor.service.ts';
import { LiveViewService } from './live/live-view.service.ts';
import { PanicService } from './panic.service.ts';
import { RedisService } from './redis.service.ts';
import { SafepointService } from './safepoint.service.ts';
import { TelemetryService } from './telemetry.service.ts';
import { ThreadPoolService } from './thread-pool.service.ts';
import { VcpuQueuesService } from './vcpu-queues.service.ts';

const services = [
  ConsoleService,
  RedisService,
  HostService,
  PanicService,
  TelemetryService,
  ThreadPoolService,
  SafepointService,
  VcpuQueuesService,
  DomainWatchService,
  LiveViewService,
  ControlService,
  HypervisorService,
];

@Module({})
class HypervisorModule {}

export const hypervisorModule = (config: HypervisorConfig): DynamicModule => ({
  module: HypervisorModule,
  providers: [{ provide: HYPERVISOR_CONFIG, useValue: config }, ...services],
  exports: services,
});
