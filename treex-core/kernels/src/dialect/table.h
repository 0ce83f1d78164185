struct Table { ulong words[WORDS]; };
