KERNEL(sweep, TABLE(table)) {
    const Share share = share_of(table, GROUP_ID, LOCAL_ID);
    switch (share.program) {
        PROGRAMS
    }
}
