/** Where the configuration lies. */
export const defaultConfigPath = '/etc/falcodrop/falcodrop.yaml';

/** The file that was named (`--config`, else `FALCODROP_CONFIG`); undefined = none was, and the default may be absent. */
export function configPath(flag: string | undefined, environment: NodeJS.ProcessEnv): string | undefined {
  const named = flag ?? environment.FALCODROP_CONFIG;
  return named === undefined || named === '' ? undefined : named;
}
