// What the dashboard is made of.
import { type DynamicModule, Module } from '@nestjs/common';
import { AccessService } from './access/access.service.ts';
import { DASHBOARD_CONFIG, type DashboardConfig } from './config.ts';
import { FeedService } from './feed/feed.service.ts';
import { HostLinkService } from './feed/host-link.service.ts';
import { LiveGateway } from './gateway/live.gateway.ts';
import { HostController } from './rest/host.controller.ts';

@Module({})
class AppModule {}

export const appModule = (config: DashboardConfig): DynamicModule => ({
  module: AppModule,
  controllers: [HostController],
  providers: [
    { provide: DASHBOARD_CONFIG, useValue: config },
    AccessService,
    HostLinkService,
    FeedService,
    LiveGateway,
  ],
});
