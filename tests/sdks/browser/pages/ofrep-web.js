// OpenFeature's web SDK with its provider for OFREP, in the words of `browser.mjs`.

import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature } from '@openfeature/web-sdk';

const client = OpenFeature.getClient();

window.sdk = {
  async start({ url, token, context }) {
    const headersFactory = () => [['Authorization', `Bearer ${token}`]];
    const provider = new OFREPWebProvider({ baseUrl: url, fetchImplementation: fetch.bind(window), headersFactory });
    await OpenFeature.setProviderAndWait(provider, context);
  },
  identify: (context) => OpenFeature.setContext(context),
  detail(key, otherwise) {
    const ask = { boolean: 'getBooleanDetails', string: 'getStringDetails', number: 'getNumberDetails', object: 'getObjectDetails' };
    const { value, errorCode, flagMetadata } = client[ask[typeof otherwise]](key, otherwise);
    return { value, reason: errorCode ?? flagMetadata?.reason, ruleIndex: flagMetadata?.ruleIndex ?? null };
  },
};
