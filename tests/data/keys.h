/* Fixed keys, made for the tests and used by nothing else. */
#pragma once

/* clang-format off */
/* P-256, PKCS#8 */
static const char fixed_ec[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnrfuw5bT82uwO2rE\n"
    "ChL0IRqkNMOz0EPoeQjQwfV0MJmhRANCAASxS2A9X7e5OKI6TpuxsQomJVFDmCfT\n"
    "IhBYhYE0IkoPYV5RYeWnBeWfx884qPy/XikUmEYfksWnwt2nMi1fW0TH\n"
    "-----END PRIVATE KEY-----\n";

/* The same key, SEC 1 */
static const char fixed_ec_traditional[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIJ637sOW0/NrsDtqxAoS9CEapDTDs9BD6HkI0MH1dDCZoAoGCCqGSM49\n"
    "AwEHoUQDQgAEsUtgPV+3uTiiOk6bsbEKJiVRQ5gn0yIQWIWBNCJKD2FeUWHlpwXl\n"
    "n8fPOKj8v14pFJhGH5LFp8LdpzItX1tExw==\n"
    "-----END EC PRIVATE KEY-----\n";

/* The same key, without its public half */
static const char fixed_ec_bare[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MDECAQEEIJ637sOW0/NrsDtqxAoS9CEapDTDs9BD6HkI0MH1dDCZoAoGCCqGSM49\n"
    "AwEH\n"
    "-----END EC PRIVATE KEY-----\n";

/* The same key, with its public half compressed */
static const char fixed_ec_compressed[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MFcCAQEEIJ637sOW0/NrsDtqxAoS9CEapDTDs9BD6HkI0MH1dDCZoAoGCCqGSM49\n"
    "AwEHoSQDIgADsUtgPV+3uTiiOk6bsbEKJiVRQ5gn0yIQWIWBNCJKD2E=\n"
    "-----END EC PRIVATE KEY-----\n";

/* RSA, 2048 bits, PKCS#8 */
static const char fixed_rsa[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDs4bqnF4Yc/jKu\n"
    "LlWU2D5UZv/XxG564SN0u1wYT1+gOytAO4U5H3BFXKNKjE8lLsT4kn6c7GBiCkTL\n"
    "xO+EVxLu1ELZvb5css0W6r5rf38+TOAhltbWyEew+dkKrzf+K5LGM7HNcNEl4je6\n"
    "B7emYCq86m6EmPDGOlczjcdXjNiCNe+U59FNHX0e6cPFCorTpvE5L0WVXkcpkusA\n"
    "KSIlPap73wbpcJX/R992q2ltSbPjXO5P633k3meojb9lPN5m4t5LNjK8GaK8gdVg\n"
    "DliviCU2y2E6V+cl+xgDxy1dC2Hgrmuh9inP+DcfLR4UkzEenOyOMZCjHS9u+NLM\n"
    "dnDjIsuDAgMBAAECggEAAPuHX9W3+jB5uwGOhvwF936n4AK8vJNo0hKhiqjwShoE\n"
    "uhL6dfwHO1prg6MlBDqh7tquCMOYO2qJ0i3ib8eWrgPrtRCAP3fZuZccAWvOy3jb\n"
    "0yKCM0jdt0JfX+0jISbtcxdYIknYrDy4eMk7E0cXK5/DTpcoeddYcOp3zF6qr+Y8\n"
    "VFnFJuahmdveaWupdVRgDPeOaUKBs0YtOqbfTxW3gOjhQdtZiTMNnm4yis1muedP\n"
    "o7L9PchvuJnJpzx6yKI7OxBrGym11CVRGuEAjv8ei5PUYJvlQxoI1sAotEbdxtKz\n"
    "u+gvwMeYbIrYqrafB6Iqhuc+GzGcxW4TUTc9+TfdHQKBgQD3me1NRjSKk3NvAfzi\n"
    "VbVy2DXT+nD+k8dvOf2R+W0YGSwzaD1pOvgDjW7vRzOBomfOcJhbT7IfNNMqaT19\n"
    "2KEofgJO3rk0rJzTumVgFFuh8oFhmgRrPD/3i7e6+EAzukPIvOCI1sXfMuXvPXXz\n"
    "BGgx7f0qKalNsRc+KB7QZ9Y2RwKBgQD06rfOQ7NEBAj9YJIWr2Kd60+6m3mkdKKr\n"
    "zt1HEZQPNKmQuyyG0KC1ACsUmLhO2NvQSNZAdmYKQugEj0HAgf/qQvA8yKyQGc2K\n"
    "VLmq6aSMBzFmBXbr08qQlUG3W/AD6B+2kag8FKZ1TS5X6EPwe1YCmsVr3vTHLP7b\n"
    "J/mWURLS5QKBgQCazhuHF+Dbz2r5ucVxgWLsBfBJs6iYEq87hIdckBU8Xui6z26t\n"
    "71eHaRM1+U9jurWqZc1sMbzNNAre1mPC3gGMvpQU2b30CAQZgM3HL5NHAscPzer7\n"
    "XPUlga6C8Jm7fbbJuAWuqJGYhksqtEOdiGDY7tI9XUTkNVex3gW+CV3uGwKBgDok\n"
    "NnpK7BWrd47fDA9Cl4Cxyf2cxyXZYnyy4Sjr7WAmulJXfNyMTnppjdCX6LkfFh++\n"
    "Cs7GzLaG55mdgJh4xA4S0gE8CmszFO5P6ru+N4fedUWo6nBVmPL12+Hxe2sSAeVP\n"
    "csbAiDu0lNndk7NVNDfuEgvno+hcsCvKs5+Ro4xZAoGATvby1cmiDBHmGS3y3CNJ\n"
    "FIHwJIDDtoen1xCkGG7uqlyKY02Wq/RaudN/x9BeTO7u7VH+3GWiDIv3m/Z/w/Yq\n"
    "83xf/I6w+lEsxU3baEUew9JhPaQ29Z/v9GlFa7+rGl8+o3SHAHyWWmpdJ3Rsiduw\n"
    "gOklVPDeMbeKRgXKZ+xpwAE=\n"
    "-----END PRIVATE KEY-----\n";

/* The same key, PKCS#1 */
static const char fixed_rsa_traditional[] =
    "-----BEGIN RSA PRIVATE KEY-----\n"
    "MIIEowIBAAKCAQEA7OG6pxeGHP4yri5VlNg+VGb/18RueuEjdLtcGE9foDsrQDuF\n"
    "OR9wRVyjSoxPJS7E+JJ+nOxgYgpEy8TvhFcS7tRC2b2+XLLNFuq+a39/PkzgIZbW\n"
    "1shHsPnZCq83/iuSxjOxzXDRJeI3uge3pmAqvOpuhJjwxjpXM43HV4zYgjXvlOfR\n"
    "TR19HunDxQqK06bxOS9FlV5HKZLrACkiJT2qe98G6XCV/0ffdqtpbUmz41zuT+t9\n"
    "5N5nqI2/ZTzeZuLeSzYyvBmivIHVYA5Yr4glNsthOlfnJfsYA8ctXQth4K5rofYp\n"
    "z/g3Hy0eFJMxHpzsjjGQox0vbvjSzHZw4yLLgwIDAQABAoIBAAD7h1/Vt/owebsB\n"
    "job8Bfd+p+ACvLyTaNISoYqo8EoaBLoS+nX8Bztaa4OjJQQ6oe7argjDmDtqidIt\n"
    "4m/Hlq4D67UQgD932bmXHAFrzst429MigjNI3bdCX1/tIyEm7XMXWCJJ2Kw8uHjJ\n"
    "OxNHFyufw06XKHnXWHDqd8xeqq/mPFRZxSbmoZnb3mlrqXVUYAz3jmlCgbNGLTqm\n"
    "308Vt4Do4UHbWYkzDZ5uMorNZrnnT6Oy/T3Ib7iZyac8esiiOzsQaxsptdQlURrh\n"
    "AI7/HouT1GCb5UMaCNbAKLRG3cbSs7voL8DHmGyK2Kq2nweiKobnPhsxnMVuE1E3\n"
    "Pfk33R0CgYEA95ntTUY0ipNzbwH84lW1ctg10/pw/pPHbzn9kfltGBksM2g9aTr4\n"
    "A41u70czgaJnznCYW0+yHzTTKmk9fdihKH4CTt65NKyc07plYBRbofKBYZoEazw/\n"
    "94u3uvhAM7pDyLzgiNbF3zLl7z118wRoMe39KimpTbEXPige0GfWNkcCgYEA9Oq3\n"
    "zkOzRAQI/WCSFq9inetPupt5pHSiq87dRxGUDzSpkLsshtCgtQArFJi4Ttjb0EjW\n"
    "QHZmCkLoBI9BwIH/6kLwPMiskBnNilS5qumkjAcxZgV269PKkJVBt1vwA+gftpGo\n"
    "PBSmdU0uV+hD8HtWAprFa970xyz+2yf5llES0uUCgYEAms4bhxfg289q+bnFcYFi\n"
    "7AXwSbOomBKvO4SHXJAVPF7ous9ure9Xh2kTNflPY7q1qmXNbDG8zTQK3tZjwt4B\n"
    "jL6UFNm99AgEGYDNxy+TRwLHD83q+1z1JYGugvCZu322ybgFrqiRmIZLKrRDnYhg\n"
    "2O7SPV1E5DVXsd4Fvgld7hsCgYA6JDZ6SuwVq3eO3wwPQpeAscn9nMcl2WJ8suEo\n"
    "6+1gJrpSV3zcjE56aY3Ql+i5HxYfvgrOxsy2hueZnYCYeMQOEtIBPAprMxTuT+q7\n"
    "vjeH3nVFqOpwVZjy9dvh8XtrEgHlT3LGwIg7tJTZ3ZOzVTQ37hIL56PoXLAryrOf\n"
    "kaOMWQKBgE728tXJogwR5hkt8twjSRSB8CSAw7aHp9cQpBhu7qpcimNNlqv0WrnT\n"
    "f8fQXkzu7u1R/txlogyL95v2f8P2KvN8X/yOsPpRLMVN22hFHsPSYT2kNvWf7/Rp\n"
    "RWu/qxpfPqN0hwB8llpqXSd0bInbsIDpJVTw3jG3ikYFymfsacAB\n"
    "-----END RSA PRIVATE KEY-----\n";

/* Ed25519 */
static const char fixed_ed25519[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIMbXf66VouVNksdu8MvKd82tvn89np6/GlbtUMmPmcPf\n"
    "-----END PRIVATE KEY-----\n";

/* P-256 with its parameters written out */
static const char refused_explicit[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MIIBaAIBAQQgdRns3BhS4m2lqCt3InI6Q5LsgtjpOZ9tnXx63DoZxUGggfowgfcC\n"
    "AQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////\n"
    "MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57Pr\n"
    "vVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEE\n"
    "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54W\n"
    "K84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8\n"
    "YyVRAgEBoUQDQgAEeBE/edg11wq1oISmpzmSejhTjgVSelWwjzojcW1Z/JLlE4La\n"
    "s6vCWn1336cfRh+mP/2lUxfgaQyn6EynmS2Rlg==\n"
    "-----END EC PRIVATE KEY-----\n";

/* P-384 */
static const char refused_p384[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDAHL9/SsdrSBR4GyJVA\n"
    "zJ3SZnaxSplVrtnYkw9yIXeCONLw5nNe0itSx4oM9INkFemhZANiAARCj19vKcmR\n"
    "rfRggpYfIccdpYYqTdRHKNfb40EW3WDUxDPAGF2i7N4LRbW2htpRx/hf+NcyXC4b\n"
    "6F88zrxDCJ3MvRczGIAHl27NJYyMEAxN5n03h9Z2SVCJwWZrFWK6ntg=\n"
    "-----END PRIVATE KEY-----\n";

/* RSA, 1024 bits */
static const char refused_rsa_1024[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIICeAIBADANBgkqhkiG9w0BAQEFAASCAmIwggJeAgEAAoGBALV8mx9WNJeQXBqB\n"
    "4rWsVKg1EHzgEaP5i9QEB4XIRQSgtn7uyDWQHic47zDt8uBR/WChlrxL2HoFmW/k\n"
    "kyZNDe2oVCWBOThtZRTkxMvdQ+y+4pxDziClQbnPl6+3w2th92pZf86GKo6sV5WH\n"
    "3b/oxsuOwueJJnKN2vJyntKfr51HAgMBAAECgYEAiRDKtygMIEvOw9ZEuqCkb0Vk\n"
    "Zmtz5zuY907zv345Yf1e1w7P9mQZ4dWGEJYlUHWbv1dK2HsPy1hfQbqHx+16DjXP\n"
    "4xcZrjWJlPjBOIn2KTdMB0NFOYJv8uX5OxcW6Xapkxnsz7pOmUzo6jtYhNlSlhUW\n"
    "5m+ZI7NRbo6YzxMVwgECQQDeItugNfdS+mobwdacFpedrqgNSfug9VDC03q/QDMJ\n"
    "oYwGpc9h+pLLZ7Vle8XioNcf/3WxAqeFFNUl0y5++NohAkEA0SdaefWH8d5C/9h1\n"
    "ArRUW0+EvylWq8kNSUedcjvM5r1X6avk3xirgZe/LRXM6dlpCPM3jT/e/xCqj6oD\n"
    "e1iaZwJBAIllViMKPif865SvmGaDMtQ9K4TMte8gzQs0cz/IHclfOpUCCfu4WQOm\n"
    "6fQTUpqSkX0hLVKHKcaO1CfJL4EpuwECQGuQyrZYcU8SGPENuLfoWE4RqlrJ/tog\n"
    "b2XVoALFAI9Wp6T0k6OtQ19F1LtyL83A04UX2OUbCSuyvZVfQaUpH1cCQQCurFfW\n"
    "kjDOvsAJ0x4ruFBElzhSChhCN18sPQwPECpHkIRbyclyMzr+9J+llHIRez49iLZP\n"
    "HGzlA356Jx+iJWdE\n"
    "-----END PRIVATE KEY-----\n";

/* RSA-PSS */
static const char refused_rsa_pss[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEugIBADALBgkqhkiG9w0BAQoEggSmMIIEogIBAAKCAQEAubxtnBQODsWoFyH2\n"
    "5OS3PjAl4pzYCN46VUQWhmKvaL1eA5DlTzQlA5rQB+bSIAxFn504Ih4PRVyBeseY\n"
    "veCWskaH0HAQkyyeHjU6ZPNTnG6A+1rxskDWekFklDgpPmxMJajpK0Vx0Nm5QocU\n"
    "IYPFYfkkDi3EGAICLIx4UtPYYEk50G0mDbG2DgGVu7NA6SjhtTGSAH5Hq5rdG6qz\n"
    "8m3kFa1L4TDOQFOo2B+WQM5u5t6luI5gIGsYCCIF7NQtUxmuBmf1IKvaWYfrCUFZ\n"
    "UO00OR2iWvfkaCw0S490JXYK0ylKKN+znTBtMz7hkAq1jf3gL+0AYPimZAhN1/FN\n"
    "sA6ZEQIDAQABAoIBACFHbEJHa59k9fGzIbgwbM7FNLyOSr0ICF6ntPt+KhyztWkh\n"
    "KJ0Q5ELplbWcu3CHkl//fQPL7AOLCB4WLj1zRL0LmyETOz0LhQc3lU9qM8R3HkAr\n"
    "Mtwz9tnv5pQSHf2zzM8AnUqmBjccE7AiYM6CfDbKO5YYyCZfEcGmp5Z7o6zYkziC\n"
    "+LpBSxX9ahEKcWgyFgyyC8JhES33oaPWwwSiC2eIyfamak63nmcZtt+ZNimOCtB9\n"
    "uQAcWlgTqIc/d8mfOokW1nhexOCl/Icl627plYGvIApCbpwwyO5FtJg078ZHDx/0\n"
    "3/8PhpF5tY5LWoKIOc77dsu+G4upu2L9zfV8YDMCgYEA9sQYHHgr8Xw2V7kXMNEu\n"
    "3ctRZluXtOmaQX8GBGH2OFTDZE2KIV0itMyE22PS85rreU3wzjr9zHzTdk7Gy1CU\n"
    "ssEfjA+M8hswoVionFaFbjXHczYXzDMcqBDP5LfVaCdjt6wy4G0mbarCO57sHQQP\n"
    "kE9lvU+gxvSXTJYdtZKfl0sCgYEAwK+x5Oulw7aM90yUqZp6e+8Exo3Iyqe8cbi8\n"
    "eVYVJpRb2/gPFPwtTIrVV8f0CrAcXp+wiX7YRjnpiD1gCofgcd9z03wSa684KbGW\n"
    "+HSRVtJCZ9cnphYjWfoBvZVLQzXBPy85/QlPD7hxgdQEVzQHfCPHaq0Jy+2kaTM8\n"
    "xmGvi5MCgYB0aVvKinKIkIV+asXi9Lv8S/9Rn2H5Kb7oqQjopmImfu5ScjX4uVw3\n"
    "GMiQSw5od6wgZMF2OOQkRLrpdA5aOeB8V5kPVQKz8FnHs/CPGE4ICPzXgCxH29Do\n"
    "BE5e4s6dPP/Q1T6HG1bmo4jP4ZAXvCOve5VOcrMxSI/bxHGth8cb8wKBgAeq9jlV\n"
    "51LSgOmWcpQNQbKM4HPGUKc/5Y/g+h8Z/d17KeynAnKjVmolXDgSDPQf7gEV+cB+\n"
    "+7xPsatqRdglcBkX+1P/K/x9DI8cMhXRDbeWxm27cih52Q5LlKYmusgB657IElav\n"
    "eCX4AQxZk5Kkz2dxRQ5JtIoY+uH02AZM/N9hAoGAZ1LXrYDSixKzH8mkDjrzLnX9\n"
    "jyfUVY6TQFYGLKKrZfMhh6d9JWi3P/TojaDlkuGc8sc/+/UwRmYD0jLP+pGAKegl\n"
    "MR1ManpceAyDpEj9fowt0JEMCuoX5vQRkN/wRbypCLL9HKO8hVNDWYtQnvqaSt+X\n"
    "oWpT/qyHpGWfFFGJfwk=\n"
    "-----END PRIVATE KEY-----\n";

/* X25519 */
static const char refused_x25519[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VuBCIEIGASVyKG9h+mAnnZ5S0HpEs8A3CWpA5fgZ9Lc+2ARpBG\n"
    "-----END PRIVATE KEY-----\n";

/* The Ed25519 key under a password */
static const char refused_encrypted[] =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
    "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiFoj1J1OHh0gICCAAw\n"
    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPUOxHEoYoCS2LhcJkE5RpgEQCoM\n"
    "Nv4BH1NgzB7mYOhVK7uyOnAIITBg0kxWX5Ns/dwgbkwmkvP8Uh+1YsXPP2HEHchT\n"
    "/Dmen6G5psDQTiSdiQ4=\n"
    "-----END ENCRYPTED PRIVATE KEY-----\n";

/* The public half of fixed_rsa, with an exponent of 65 bits */
static const char refused_rsa_exponent[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBKDANBgkqhkiG9w0BAQEFAAOCARUAMIIBEAKCAQEA7OG6pxeGHP4yri5VlNg+\n"
    "VGb/18RueuEjdLtcGE9foDsrQDuFOR9wRVyjSoxPJS7E+JJ+nOxgYgpEy8TvhFcS\n"
    "7tRC2b2+XLLNFuq+a39/PkzgIZbW1shHsPnZCq83/iuSxjOxzXDRJeI3uge3pmAq\n"
    "vOpuhJjwxjpXM43HV4zYgjXvlOfRTR19HunDxQqK06bxOS9FlV5HKZLrACkiJT2q\n"
    "e98G6XCV/0ffdqtpbUmz41zuT+t95N5nqI2/ZTzeZuLeSzYyvBmivIHVYA5Yr4gl\n"
    "NsthOlfnJfsYA8ctXQth4K5rofYpz/g3Hy0eFJMxHpzsjjGQox0vbvjSzHZw4yLL\n"
    "gwIJAQAAAAAAAAAB\n"
    "-----END PUBLIC KEY-----\n";

/* clang-format on */
