// LaunchDarkly's classic browser SDK, in the words of `browser.mjs`.

import { initialize } from 'launchdarkly-js-client-sdk';

let client;

window.sdk = {
  async start({ url, token, context }) {
    const uris = { baseUrl: url, streamUrl: url, eventsUrl: url };
    client = initialize(token, context, { ...uris, evaluationReasons: true, streaming: true, sendEvents: false, diagnosticOptOut: true });
    await client.waitForInitialization(20);
  },
  identify: (context) => client.identify(context),
  detail(key, otherwise) {
    const { value, reason } = client.variationDetail(key, otherwise);
    return { value, reason: reason?.errorKind ?? reason?.kind, ruleIndex: reason?.ruleIndex ?? null };
  },
};
