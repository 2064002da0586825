// What a guest agent is made of.
import { type DynamicModule, Module } from '@nestjs/common';
import { AGENT_CONFIG, type AgentConfig } from './config.ts';
import { SupervisorService } from './supervisor.service.ts';

@Module({})
class AppModule {}

export const appModule = (config: AgentConfig): DynamicModule => ({
  module: AppModule,
  providers: [{ provide: AGENT_CONFIG, useValue: config }, SupervisorService],
});
