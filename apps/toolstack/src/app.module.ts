// What the toolstack is made of.
import { type DynamicModule, Module } from '@nestjs/common';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';
import { Dom0Service } from './dom0.service.ts';
import { DomainRecordsService } from './domain-records.service.ts';
import { DomainsService } from './domains.service.ts';
import { LifecycleService } from './lifecycle.service.ts';
import { OperationsService } from './operations.service.ts';
import { PlacementService } from './placement.service.ts';
import { SqueezedService } from './squeezed.service.ts';
import { ToolstackService } from './toolstack.service.ts';
import { XenstoreService } from './xenstore.service.ts';
import { XlService } from './xl.service.ts';

const services = [
  Dom0Service,
  XenstoreService,
  OperationsService,
  PlacementService,
  DomainRecordsService,
  SqueezedService,
  DomainsService,
  LifecycleService,
  XlService,
  ToolstackService,
];

@Module({})
class AppModule {}

export const appModule = (config: ToolstackConfig): DynamicModule => ({
  module: AppModule,
  providers: [{ provide: TOOLSTACK_CONFIG, useValue: config }, ...services],
});
